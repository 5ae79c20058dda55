# make            builds the programs into $(BUILD)
# make help       what else there is
# make V=1 ...    shows every command

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

# ---- Each room is an archive. A program links its main file and, from the archives, what it calls.
# (The stream handler faces strangers. Neither it nor its unit tests link with libpq, so a call of
# common/pg does not link there.)

objects_of   = $(patsubst %.c,$(BUILD)/%.o,$(1))
room_objects = $(call objects_of,$(filter-out $(1)/main.c,$(wildcard $(1)/*.c)))
common_lib   := $(BUILD)/common.a
broker_lib   := $(BUILD)/broker.a
fcgi_lib     := $(BUILD)/fcgi.a
stream_lib   := $(BUILD)/fcgi/stream.a
publish_lib  := $(BUILD)/fcgi/publish.a

$(common_lib): $(call room_objects,common)
$(broker_lib): $(call room_objects,broker)
$(fcgi_lib): $(call room_objects,fcgi)
$(stream_lib): $(call room_objects,fcgi/stream)
$(publish_lib): $(call room_objects,fcgi/publish)
%.a:
	$(call quietly,AR,$@)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/pgsse-broker: $(BUILD)/broker/main.o $(broker_lib) $(common_lib)
	$(call quietly,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(call packages_flags,--libs,libpq json-c libcrypto)

$(BUILD)/pgsse-stream.fcgi: $(BUILD)/fcgi/stream/main.o $(stream_lib) $(fcgi_lib) $(common_lib)
	$(call quietly,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(call packages_flags,--libs,fcgi zlib)

$(BUILD)/pgsse-publish.fcgi: $(BUILD)/fcgi/publish/main.o $(publish_lib) $(fcgi_lib) $(common_lib)
	$(call quietly,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(call packages_flags,--libs,fcgi libpq)

# A room can include only common/ and itself; the two handlers can include fcgi/, too.
$(BUILD)/common/%.o: CPPFLAGS += $(call packages_flags,--cflags,libpq)
$(BUILD)/broker/%.o: CPPFLAGS += -Ibroker $(call packages_flags,--cflags,json-c libcrypto)
$(BUILD)/fcgi/%.o: CPPFLAGS += -Ifcgi $(call packages_flags,--cflags,fcgi)
$(BUILD)/fcgi/stream/%.o: CPPFLAGS += -Ifcgi/stream $(call packages_flags,--cflags,zlib)
$(BUILD)/fcgi/publish/%.o: CPPFLAGS += -Ifcgi/publish

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call quietly,CC,$<)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# ---- tests -----------------------------------------------------------------------------------

unit_sources  := $(wildcard tests/unit/*/test_*.c)
unit_programs := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(unit_sources))

# A test gets a state from cmocka, and a fake what it replaces: few use all of it.
$(BUILD)/tests/unit/%.o: CPPFLAGS += -Itests/unit
$(BUILD)/tests/unit/%.o: CFLAGS += -Wno-unused-parameter
$(BUILD)/tests/unit/broker/%.o: CPPFLAGS += -Ibroker
$(BUILD)/tests/unit/fcgi/%.o: CPPFLAGS += -Ifcgi
$(BUILD)/tests/unit/stream/%.o: CPPFLAGS += -Ifcgi -Ifcgi/stream
$(BUILD)/tests/unit/publish/%.o: CPPFLAGS += -Ifcgi -Ifcgi/publish

# A room's tests link what its program links.
define unit_room
$(BUILD)/unit/$(1)/%: $(BUILD)/tests/unit/$(1)/%.o $(2)
	@mkdir -p $$(@D)
	$$(call quietly,LINK,$$@)$$(CC) $$(LDFLAGS) -o $$@ $$^ $$(call packages_flags,--libs,cmocka $(3))
endef
$(eval $(call unit_room,common,$(common_lib),libpq))
$(eval $(call unit_room,broker,$(broker_lib) $(common_lib),libpq json-c libcrypto))
$(eval $(call unit_room,fcgi,$(fcgi_lib) $(common_lib),fcgi))
$(eval $(call unit_room,stream,$(stream_lib) $(fcgi_lib) $(common_lib),fcgi zlib))
$(eval $(call unit_room,publish,$(publish_lib) $(fcgi_lib) $(common_lib),fcgi libpq))

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

# ---- simulation ------------------------------------------------------------------------------

FIRST ?= 1
SEEDS ?= 200

simulation_objects := $(call objects_of,$(wildcard tests/simulation/*.c))
$(BUILD)/tests/simulation/real_broker.o: CPPFLAGS += -Ibroker $(call packages_flags,--cflags,json-c)
$(BUILD)/tests/simulation/real_stream.o: CPPFLAGS += -Ifcgi -Ifcgi/stream

$(BUILD)/simulation: $(simulation_objects) $(broker_lib) $(stream_lib) $(fcgi_lib) $(common_lib)
	$(call quietly,LINK,$@)$(CC) $(LDFLAGS) -Wl,--wrap=clock_gettime,--wrap=getrandom,--wrap=epoll_wait,--wrap=stream_query_of_topic \
	  -o $@ $^ $(call packages_flags,--libs,fcgi libpq json-c libcrypto zlib)

## simulation   brokers and handlers in a played world, SEEDS=200 of them from FIRST=1; a judge of each stream
simulation:
	tools/install run
	$(MAKE) $(BUILD)/simulation
	$(BUILD)/simulation $(FIRST) $(SEEDS)

# ---- benchmark -------------------------------------------------------------------------------

bench_objects := $(call objects_of,$(wildcard tests/bench/*.c))
$(BUILD)/tests/bench/%.o: CPPFLAGS += $(call packages_flags,--cflags,libpq)

$(BUILD)/pgsse-bench: $(bench_objects) $(common_lib)
	$(call quietly,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(call packages_flags,--libs,libpq json-c zlib) -lm

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

c_files := $(wildcard common/*.[ch] broker/*.[ch] fcgi/*.[ch] fcgi/*/*.[ch] tests/unit/*/*.[ch] tests/unit/*.h \
             tests/bench/*.[ch] tests/simulation/*.[ch])

## lint         formatting, clang-tidy, cppcheck, shellcheck and the checks of the house
lint:
	tools/install lint
	$(MAKE) lint-only

# (ctu)uninitvar: cppcheck does not see that TAILQ_FOREACH and HASH_ITER set their variables; both
# compilers do.
lint-only:
	clang-format --dry-run --Werror $(c_files)
	tools/check
	tools/check-docs
	cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr --enable=warning,portability \
	  --suppress=missingIncludeSystem --suppress=uninitvar --suppress=ctuuninitvar -Icommon -Ibroker -Ifcgi -Ifcgi/stream -Ifcgi/publish -DPGSSE_VERSION='"x"' common broker fcgi
	$(foreach room,common broker fcgi fcgi/stream fcgi/publish,clang-tidy --quiet $(room)/*.c -- \
	  -std=c17 $(CPPFLAGS) $(if $(filter fcgi/%,$(room)),-Ifcgi) -I$(room) $(call packages_flags,--cflags,fcgi libpq json-c libcrypto) &&) true
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

.PHONY: all unit test chaos simulation bench run lint lint-only fmt clean help
.SECONDARY:

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
