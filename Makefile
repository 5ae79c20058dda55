# make            build the programs into $(BUILD)
# make help       what else there is
# make V=1 ...    say every command

VERSION  := 0.1.0
comma    := ,
SAN      ?=
VARIANT  := $(if $(SAN),$(subst $(comma),-,$(SAN)),release)
BUILD    ?= build/$(VARIANT)


PKG_CONFIG ?= pkg-config
packages_flags = $(shell $(PKG_CONFIG) $(1) $(2))

V        ?=
quietly   = $(if $(V),,@printf '%-8s %s\n' $(1) $(2);)

OPTIMISE := -O2 -g
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
            -Wswitch-enum -Wvla -Wformat=2 $(if $(CI),-Werror)
HARDEN   := -fstack-protector-strong -fPIE $(if $(SAN),,-D_FORTIFY_SOURCE=2)
SANITISE := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
CFLAGS   += -std=c17 $(OPTIMISE) $(WARNINGS) $(HARDEN) $(SANITISE)
CPPFLAGS += -D_GNU_SOURCE -DPGSSE_VERSION='"$(VERSION)"' -include common/poison.h -Icommon
LDFLAGS  += -pie -Wl,-z,relro,-z,now $(SANITISE)

.DEFAULT_GOAL := all
PROGRAMS := $(addprefix $(BUILD)/,pgsse-broker pgsse-stream.fcgi pgsse-publish.fcgi)

## all          the three programs
all: $(PROGRAMS)

# ---- each room is an archive; a program links its main file and takes from the rooms what it calls.
# (So libpq comes to the stream handler only if somebody there calls common/pg: a check forbids it.)

objects_of   = $(patsubst %.c,$(BUILD)/%.o,$(1))
common_lib   := $(BUILD)/common.a
broker_lib   := $(BUILD)/broker.a
fcgi_lib     := $(BUILD)/fcgi.a
fcgi_mains   := fcgi/stream_main.c fcgi/publish_main.c

$(common_lib): $(call objects_of,$(wildcard common/*.c))
$(broker_lib): $(call objects_of,$(filter-out broker/main.c,$(wildcard broker/*.c)))
$(fcgi_lib): $(call objects_of,$(filter-out $(fcgi_mains),$(wildcard fcgi/*.c)))
%.a:
	$(call quietly,AR,$@)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/pgsse-broker: $(BUILD)/broker/main.o $(broker_lib) $(common_lib)
	$(call quietly,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(call packages_flags,--libs,libpq json-c)

$(BUILD)/pgsse-stream.fcgi: $(BUILD)/fcgi/stream_main.o $(fcgi_lib) $(common_lib)
	$(call quietly,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(call packages_flags,--libs,fcgi)

$(BUILD)/pgsse-publish.fcgi: $(BUILD)/fcgi/publish_main.o $(fcgi_lib) $(common_lib)
	$(call quietly,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(call packages_flags,--libs,fcgi libpq)

# A room sees common/ and itself, nothing else.
$(BUILD)/common/%.o: CPPFLAGS += $(call packages_flags,--cflags,libpq)
$(BUILD)/broker/%.o: CPPFLAGS += -Ibroker $(call packages_flags,--cflags,json-c)
$(BUILD)/fcgi/%.o: CPPFLAGS += -Ifcgi $(call packages_flags,--cflags,fcgi)

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call quietly,CC,$<)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# ---- tests -----------------------------------------------------------------------------------

unit_sources  := $(wildcard tests/unit/*/test_*.c)
unit_programs := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(unit_sources))

$(BUILD)/tests/unit/common/%.o: CPPFLAGS += -Itests/unit
$(BUILD)/tests/unit/broker/%.o: CPPFLAGS += -Ibroker -Itests/unit
$(BUILD)/tests/unit/fcgi/%.o: CPPFLAGS += -Ifcgi -Itests/unit

$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(broker_lib) $(fcgi_lib) $(common_lib)
	@mkdir -p $(@D)
	$(call quietly,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(call packages_flags,--libs,cmocka fcgi libpq json-c)

## unit         build the unit tests
unit: $(unit_programs)

## test         all tests: installs what is missing, then unit (cmocka) and integration (pytest)
test:
	tools/install test
	$(MAKE) all unit
	BUILD=$(BUILD) tools/test

# ---- chaos -----------------------------------------------------------------------------------

SEED    ?=
SECONDS ?= 60

## chaos        faults at random for SECONDS=60, from SEED; a judge of what hundreds of clients got
chaos:
	tools/install test
	$(MAKE) all
	PGSSE_BUILD=$(BUILD) /usr/bin/python3 tests/chaos/chaos.py $(if $(SEED),--seed $(SEED)) \
	  --seconds $(SECONDS) $(CHAOS)

# ---- benchmark -------------------------------------------------------------------------------

bench_objects := $(call objects_of,$(wildcard tests/bench/*.c))
$(BUILD)/tests/bench/%.o: CPPFLAGS += $(call packages_flags,--cflags,libpq)

$(BUILD)/pgsse-bench: $(bench_objects) $(common_lib)
	$(call quietly,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(call packages_flags,--libs,libpq json-c) -lm

## bench        speed and size, measured on a private instance; no test
bench:
	tools/install run
	$(MAKE) all $(BUILD)/pgsse-bench
	BIN=$(BUILD) tests/bench/run $(BENCH)

# ---- running ---------------------------------------------------------------------------------

PORT ?= 8080
RUN  ?= run
export PORT RUN

## run          the whole service on 127.0.0.1:$(PORT), its files in $(RUN); Ctrl-C stops it
run:
	tools/install run
	$(MAKE) all
	@BIN="$(BUILD)" exec setpriv --pdeathsig TERM tools/run

# ---- care ------------------------------------------------------------------------------------

c_files := $(wildcard common/*.[ch] broker/*.[ch] fcgi/*.[ch] tests/unit/*/*.[ch] tests/unit/*.h \
             tests/bench/*.[ch])

## lint         formatting, clang-tidy, cppcheck, shellcheck and the checks of the house
lint:
	tools/install lint
	$(MAKE) lint-only

# uninitvar: cppcheck does not see that TAILQ_FOREACH sets its variable; both compilers do.
lint-only:
	clang-format --dry-run --Werror $(c_files)
	tools/check
	cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr --enable=warning,portability \
	  --suppress=missingIncludeSystem --suppress=uninitvar -Icommon -Ibroker -Ifcgi -DPGSSE_VERSION='"x"' common broker fcgi
	$(foreach room,common broker fcgi,clang-tidy --quiet $(room)/*.c -- -std=c17 $(CPPFLAGS) \
	  -I$(room) $(call packages_flags,--cflags,fcgi libpq json-c) &&) true
	shellcheck -x $(shell grep -rlE '^#!.*\b(ba)?sh' tools tests/bench .ci)

## fmt          format the C sources
fmt:
	clang-format -i $(c_files)

## clean        remove what was built
clean:
	rm -rf build

## help         this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

.PHONY: all unit test chaos bench run lint lint-only fmt clean help
.SECONDARY:

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
