#include "reload.h"

#include "config_load.h"

static bool is_applied(const char *name) {
    return strcmp(name, "channels") == 0 || strcmp(name, "forge_events") == 0 ||
           strcmp(name, "log_level") == 0;
}

static void name_the_others(const struct config *config, const struct config *fresh) {
    struct buf names = {0};
    for (size_t i = 0; i < config_key_count(); i++) {
        struct config_key_facts key = config_key_at(i);
        if ((key.programs & CONFIG_BROKER) != 0 && !is_applied(key.name) &&
            config_key_differs(config, fresh, i)) {
            buf_printf(&names, "%s%s", names.length == 0 ? "" : ", ", key.name);
        }
    }
    if (names.length > 0) {
        log_warning("the configuration was read again; what has changed and needs a restart: %.*s",
                    (int)names.length, names.bytes);
    }
    buf_release(&names);
}

static void apply(struct broker *broker, struct config *fresh, struct channels *channels) {
    log_init(config_program_name(CONFIG_BROKER), (enum log_level)fresh->log_level);
    name_the_others(broker->config, fresh);
    broker_set_channels(broker, channels);
}

void reload(struct broker *broker) {
    struct config fresh = {0};
    struct channels channels = {0};
    char reason[CONFIG_REASON_BYTES];
    _Static_assert((int)CONFIG_REASON_BYTES >= (int)CHANNELS_REASON_BYTES, "it has room for both");
    if (!config_load_again(&fresh, broker->config, CONFIG_BROKER, reason)) {
        log_error("the configuration cannot be used, the old one goes on: %s", reason);
    } else if (!channels_parse(&channels, fresh.channels, fresh.forge_events != 0, reason)) {
        log_error("the configuration cannot be used, the old one goes on: channels: %s", reason);
    } else {
        apply(broker, &fresh, &channels);
    }
    config_release(&fresh);
}
