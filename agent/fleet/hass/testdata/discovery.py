#!/usr/bin/env python3
"""Judges what is published to Home Assistant by the rules it documents.

    mosquitto_sub -v -t 'homeassistant/#' -W 3 | python3 discovery.py

Reads lines of a topic, a space and a payload, prints a line for each rule that is
broken, and exits with 1 if there was one. With --each a line is judged as if there were
no other, and its number printed. It knows nothing of who publishes: only what
https://www.home-assistant.io/integrations/mqtt/ and its pages on select, sensor, update
and binary_sensor say, and https://www.home-assistant.io/integrations/sensor/ on units.
"""

import json
import re
import sys

# The topic: <prefix>/<component>/[<node>/]<object>/config.
NAME = re.compile(r"[a-zA-Z0-9_-]+")

PLATFORMS = set("""alarm_control_panel binary_sensor button camera climate cover device_automation device_tracker
event fan humidifier image lawn_mower light lock notify number scene select sensor siren switch tag text update
vacuum valve water_heater""".split())
WITHOUT_ENTITY = {"device_automation", "tag"}  # which need no unique_id

ABBREVIATIONS = {
    "avty": "availability", "avty_mode": "availability_mode", "avty_t": "availability_topic",
    "avty_tpl": "availability_template", "cmd_t": "command_topic", "cmd_tpl": "command_template",
    "cmps": "components", "dev": "device", "dev_cla": "device_class", "e": "encoding", "en": "enabled_by_default",
    "ent_cat": "entity_category", "ent_pic": "entity_picture", "exp_aft": "expire_after", "frc_upd": "force_update",
    "ic": "icon", "json_attr_t": "json_attributes_topic", "json_attr_tpl": "json_attributes_template",
    "l_ver_t": "latest_version_topic", "l_ver_tpl": "latest_version_template", "o": "origin", "obj_id": "object_id",
    "off_dly": "off_delay", "ops": "options", "opt": "optimistic", "p": "platform", "pl_avail": "payload_available",
    "pl_inst": "payload_install", "pl_not_avail": "payload_not_available", "pl_off": "payload_off",
    "pl_on": "payload_on", "rel_s": "release_summary", "rel_u": "release_url", "ret": "retain",
    "stat_cla": "state_class", "stat_t": "state_topic", "sug_dsp_prc": "suggested_display_precision", "t": "topic",
    "tit": "title", "uniq_id": "unique_id", "unit_of_meas": "unit_of_measurement", "val_tpl": "value_template",
}
OF_DEVICE = {"cns": "connections", "cu": "configuration_url", "hw": "hw_version", "ids": "identifiers",
             "mdl": "model", "mdl_id": "model_id", "mf": "manufacturer", "sa": "suggested_area",
             "sn": "serial_number", "sw": "sw_version"}
OF_ORIGIN = {"sw": "sw_version", "url": "support_url"}

DEVICE_KEYS = set(OF_DEVICE.values()) | {"name", "via_device"}
ORIGIN_KEYS = {"name", "sw_version", "support_url"}
AVAILABILITY = {"availability", "availability_mode", "availability_topic", "availability_template",
                "payload_available", "payload_not_available"}
ROOT_KEYS = AVAILABILITY | {"device", "origin", "components", "state_topic", "command_topic", "qos", "encoding"}

# What a platform must have, beside its unique_id. Of the others only the common rules are known here.
REQUIRED = {
    "binary_sensor": {"state_topic"}, "button": {"command_topic"}, "number": {"command_topic"},
    "select": {"command_topic", "options"}, "sensor": {"state_topic"}, "switch": {"command_topic"},
    "text": {"command_topic"}, "update": set(),
}

CONCENTRATION = {"µg/m³"}
SENSOR_UNITS = {  # device_class to the units that it takes; an empty set: none
    "apparent_power": {"mVA", "VA", "kVA"}, "aqi": set(), "battery": {"%"}, "carbon_dioxide": {"ppm"},
    "carbon_monoxide": {"ppm"}, "current": {"A", "mA"}, "date": set(),
    "data_rate": {"bit/s", "kbit/s", "Mbit/s", "Gbit/s", "B/s", "kB/s", "MB/s", "GB/s", "KiB/s", "MiB/s", "GiB/s"},
    "data_size": {"bit", "kbit", "Mbit", "Gbit", "B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"},
    "distance": {"mm", "cm", "m", "km", "in", "ft", "yd", "mi", "nmi"},
    "duration": {"d", "h", "min", "s", "ms", "µs"},
    "energy": {"J", "kJ", "MJ", "GJ", "mWh", "Wh", "kWh", "MWh", "GWh", "TWh", "cal", "kcal", "Mcal", "Gcal"},
    "enum": set(), "frequency": {"Hz", "kHz", "MHz", "GHz"}, "humidity": {"%"}, "illuminance": {"lx"},
    "moisture": {"%"}, "monetary": None, "pm1": CONCENTRATION, "pm10": CONCENTRATION, "pm25": CONCENTRATION,
    "power": {"mW", "W", "kW", "MW", "GW", "TW"}, "power_factor": {"%"},
    "pressure": {"Pa", "hPa", "kPa", "bar", "cbar", "mbar", "mmHg", "inHg", "psi"},
    "signal_strength": {"dB", "dBm"}, "sound_pressure": {"dB", "dBA"},
    "speed": {"m/s", "km/h", "mph", "kn", "ft/s", "mm/s", "mm/d", "mm/h", "in/d", "in/h"},
    "temperature": {"°C", "°F", "K"}, "timestamp": set(), "voltage": {"µV", "mV", "V", "kV", "MV"},
    "volume": {"L", "mL", "gal", "fl. oz.", "m³", "ft³", "CCF"},
    "weight": {"kg", "g", "mg", "µg", "oz", "lb", "st"},
}
STATE_CLASSES = {"measurement", "measurement_angle", "total", "total_increasing"}
TOTAL_ALONE = {"energy", "monetary"}  # which are no measurements
NOT_NUMBERS = {"date", "enum", "timestamp"}

# Templates have what Home Assistant's Jinja has; these are the blocks that must end.
BLOCKS = {"if", "for", "macro", "filter", "call", "raw"}
TAGS = BLOCKS | {"set", "elif", "else"} | {"end" + b for b in BLOCKS}
TOKEN = re.compile(r"\{\{|\}\}|\{%|%\}|\{#|#\}")


class Findings:
    """What was found wrong, and what must be unique across all messages."""

    def __init__(self):
        self.found = []
        self.unique = {}  # unique_id by platform, to where it is
        self.devices = {}  # identifiers, to the topic

    def say(self, where, text):
        self.found.append(f"{where}: {text}")


def judge(lines):
    """The findings about lines of mosquitto_sub -v, of which the last of a topic counts."""
    newest, findings = {}, Findings()
    for line in lines:
        line = line.rstrip("\r\n")
        if line:
            topic, _, payload = line.partition(" ")
            newest[topic] = "" if payload == "(null)" else payload
    for topic, payload in newest.items():
        message(findings, topic, payload)
    return findings.found


def message(f, topic, payload):
    if topic.endswith("/status") and topic.count("/") == 1:
        if payload not in ("online", "offline"):
            f.say(topic, f"a status is online or offline, not {payload!r}")
        return
    levels = topic.split("/")
    if levels[-1] != "config" or len(levels) not in (4, 5):
        return f.say(topic, "the topic is not <prefix>/<component>/[<node_id>/]<object_id>/config")
    for level in levels[2:-1]:
        if not NAME.fullmatch(level):
            f.say(topic, f"{level!r} in the topic is not of [a-zA-Z0-9_-]")
    if levels[1] not in PLATFORMS | {"device"}:
        return f.say(topic, f"{levels[1]!r} in the topic is no component")
    if payload == "":
        return None  # the device or entity is removed
    try:
        doc = json.loads(payload, object_pairs_hook=lambda pairs: once(f, topic, pairs))
    except ValueError as err:
        return f.say(topic, f"the payload is no JSON: {err}")
    if not isinstance(doc, dict):
        return f.say(topic, "the payload is no JSON object")
    if doc.get("migrate_discovery") is True or doc.get("migr_discvry") is True:
        return None
    doc = spelt(f, topic, doc, ABBREVIATIONS)
    if levels[1] == "device":
        return device_discovery(f, topic, doc)
    if "origin" in doc:
        origin(f, topic, doc["origin"])
    if "device" in doc:
        device(f, topic, doc["device"])
    return component(f, topic, levels[1], doc)


def once(f, where, pairs):
    doc = {}
    for key, value in pairs:
        if key in doc:
            f.say(where, f"the key {key!r} is there twice")
        doc[key] = value
    return doc


def spelt(f, where, doc, abbreviations):
    """The mapping with its keys written out."""
    full = {}
    for key, value in doc.items():
        name = abbreviations.get(key, key)
        if name in full:
            f.say(where, f"{name} is there twice, once abbreviated")
        full[name] = value
    return full


def device_discovery(f, topic, doc):
    for key in ("device", "origin", "components"):
        if key not in doc:
            f.say(topic, f"the required key {key!r} is missing")
    for key in doc.keys() - ROOT_KEYS:
        f.say(topic, f"{key!r} is no key beside the components")
    if "device" in doc:
        identifiers = device(f, topic, doc["device"])
        for one in identifiers:
            if f.devices.setdefault(one, topic) != topic:
                f.say(topic, f"the identifier {one!r} is that of the device at {f.devices[one]} as well")
    if "origin" in doc:
        origin(f, topic, doc["origin"])
    common(f, topic, doc)
    components = doc.get("components")
    if components is None:
        return
    if not isinstance(components, dict) or not components:
        return f.say(topic, "components is no mapping with an entry")
    shared = {k: v for k, v in doc.items() if k in AVAILABILITY | {"state_topic", "command_topic"}}
    for name, entry in components.items():
        where = f"{topic} {name}"
        if not isinstance(entry, dict):
            f.say(where, "a component is a mapping")
            continue
        entry = spelt(f, where, entry, ABBREVIATIONS)
        platform = entry.pop("platform", None)
        if platform is None:
            f.say(where, "the required key 'platform' is missing")
        elif platform not in PLATFORMS:
            f.say(where, f"{platform!r} is no platform")
        elif entry:  # with its platform alone a component is removed
            for key in ("device", "origin"):
                if key in entry:
                    f.say(where, f"{key} belongs beside the components")
            component(f, where, platform, shared | entry, required_id=True)


def device(f, where, doc):
    if not isinstance(doc, dict):
        f.say(where, "device is no mapping")
        return []
    doc = spelt(f, where, doc, OF_DEVICE)
    for key in doc.keys() - DEVICE_KEYS:
        f.say(where, f"{key!r} is no key of a device")
    identifiers = doc.get("identifiers", [])
    identifiers = identifiers if isinstance(identifiers, list) else [identifiers]
    connections = doc.get("connections", [])
    if not identifiers and not connections:
        f.say(where, "a device needs identifiers or connections")
    if not isinstance(connections, list) or any(not isinstance(c, list) or len(c) != 2 for c in connections):
        f.say(where, "connections are pairs of a kind and a value")
    if any(not isinstance(i, str) or not i for i in identifiers):
        f.say(where, "an identifier is a text")
    for key in DEVICE_KEYS - {"identifiers", "connections"}:
        if key in doc and (not isinstance(doc[key], str) or not doc[key]):
            f.say(where, f"{key} of the device is no text")
    url(f, where, doc, "configuration_url", ("http", "https", "homeassistant"))
    return [i for i in identifiers if isinstance(i, str)]


def origin(f, where, doc):
    if not isinstance(doc, dict):
        return f.say(where, "origin is no mapping")
    doc = spelt(f, where, doc, OF_ORIGIN)
    for key in doc.keys() - ORIGIN_KEYS:
        f.say(where, f"{key!r} is no key of an origin")
    if not isinstance(doc.get("name"), str) or not doc["name"]:
        f.say(where, "an origin needs a name")
    url(f, where, doc, "support_url", ("http", "https", "homeassistant"))


def url(f, where, doc, key, schemes):
    if key in doc and not re.fullmatch(r"(?:%s)://[^\s/]+\S*" % "|".join(schemes), str(doc[key])):
        f.say(where, f"{key} is no URL of {', '.join(schemes)}")


def component(f, where, platform, doc, required_id=False):
    doc = dict(doc)
    base = doc.pop("~", None)
    if isinstance(base, str):
        for key, value in doc.items():
            if key.endswith("_topic") and isinstance(value, str):
                doc[key] = re.sub("^~|~$", lambda _: base, value)
    for key in sorted(REQUIRED.get(platform, set()) - doc.keys()):
        f.say(where, f"the required key {key!r} of a {platform} is missing")
    identity(f, where, platform, doc, required_id)
    common(f, where, doc)
    if doc.get("name") is not None and (not isinstance(doc.get("name", ""), str) or doc["name"] == ""):
        f.say(where, "name is neither a text nor null")
    if doc.get("entity_category") not in (None, "config", "diagnostic"):
        f.say(where, "entity_category is neither config nor diagnostic")
    if platform in ("sensor", "binary_sensor") and doc.get("entity_category") == "config":
        f.say(where, f"a {platform} is none of the category config")
    if "icon" in doc and not re.fullmatch(r"\w+:[a-z0-9-]+", str(doc["icon"])):
        f.say(where, "icon is no prefix:name")
    for key in ("enabled_by_default", "retain", "optimistic", "force_update"):
        if key in doc and not isinstance(doc[key], bool):
            f.say(where, f"{key} is neither true nor false")
    for key in ("expire_after", "suggested_display_precision"):
        if key in doc and (not isinstance(doc[key], int) or isinstance(doc[key], bool) or doc[key] < 0):
            f.say(where, f"{key} is no whole number from 0")
    {"select": select, "sensor": sensor, "update": update}.get(platform, lambda *_: None)(f, where, doc)


def identity(f, where, platform, doc, required):
    unique = doc.get("unique_id")
    if unique is None:
        if platform not in WITHOUT_ENTITY and (required or "device" in doc):
            f.say(where, "the required key 'unique_id' is missing")
        return
    if not isinstance(unique, str) or not unique:
        return f.say(where, "unique_id is no text")
    first = f.unique.setdefault((platform, unique), where)
    if first != where:
        f.say(where, f"the unique_id {unique!r} is that of {first} as well")


def common(f, where, doc):
    """Topics, templates, quality of service and availability."""
    for key, value in doc.items():
        if key == "topic" or key.endswith("_topic"):
            topic_name(f, where, key, value, publish="command" in key)
        elif key.endswith("_template"):
            template(f, where, key, value)
    if "qos" in doc and (isinstance(doc["qos"], bool) or doc["qos"] not in (0, 1, 2)):
        f.say(where, "qos is none of 0, 1, 2")
    if "availability" in doc and "availability_topic" in doc:
        f.say(where, "availability and availability_topic exclude each other")
    if doc.get("availability_mode", "latest") not in ("all", "any", "latest"):
        f.say(where, "availability_mode is none of all, any, latest")
    entries = doc.get("availability", [])
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, dict):
            f.say(where, "an entry of availability is a mapping")
            continue
        entry = spelt(f, where, entry, ABBREVIATIONS)
        if "topic" not in entry:
            f.say(where, "an entry of availability needs a topic")
        common(f, where, entry)
    if doc.get("payload_available", "online") == doc.get("payload_not_available", "offline"):
        f.say(where, "payload_available and payload_not_available are the same")


def topic_name(f, where, key, value, publish):
    if not isinstance(value, str) or not value or len(value.encode()) > 65535:
        return f.say(where, f"{key} is no topic")
    if any(c <= "\x1f" or "\x7f" <= c <= "\x9f" for c in value):
        f.say(where, f"{key} has control characters")
    if publish and ("+" in value or "#" in value):
        f.say(where, f"{key} has a wildcard, and is published to")
    levels = value.split("/")
    for i, level in enumerate(levels):
        if "+" in level and level != "+" or "#" in level and (level != "#" or i + 1 < len(levels)):
            f.say(where, f"{key}: a wildcard must have a level of its own, and # the last one")


def template(f, where, key, text):
    """Whether a template can be one: its delimiters, brackets, quotes and blocks match."""
    if not isinstance(text, str):
        return f.say(where, f"{key} is no text")
    open_blocks, shows = [], False
    for kind, inside in parts(text):
        if kind == "error":
            return f.say(where, f"{key}: {inside}")
        if kind == "{%":
            tag = inside.strip("-+ \t").split(" ")[0]
            if tag not in TAGS:
                return f.say(where, f"{key}: {tag!r} is no tag")
            if tag in BLOCKS:
                open_blocks.append(tag)
            elif tag.startswith("end") and (not open_blocks or open_blocks.pop() != tag[3:]):
                return f.say(where, f"{key}: {tag} ends nothing")
        elif not inside.strip("-+ \t"):
            return f.say(where, f"{key}: an expression is empty")
        shows = shows or kind == "{{"
        if fault := unbalanced(inside):
            return f.say(where, f"{key}: {fault}")
    if open_blocks:
        f.say(where, f"{key}: {open_blocks[-1]} has no end")
    if not shows:
        f.say(where, f"{key} has no expression: it is the same whatever comes")
    elif not re.search(r"\bvalue(?:_json)?\b", text):
        f.say(where, f"{key} looks at neither value nor value_json")


def parts(text):
    """What stands between delimiters, each with its opening one."""
    ends = {"{{": "}}", "{%": "%}", "{#": "#}"}
    at = 0
    while match := TOKEN.search(text, at):
        start = match.group()
        if start not in ends:
            yield "error", f"{start} closes nothing"
            return
        end = closing(text, match.end(), ends[start])
        if end < 0:
            yield "error", f"{start} is not closed"
            return
        if start != "{#":
            yield start, text[match.end():end]
        at = end + 2


def closing(text, at, end):
    """Where a delimiter closes, outside of quotes and of braces of its own."""
    quote, depth = "", 0
    while at < len(text):
        c = text[at]
        if quote:
            if c == "\\":
                at += 1
            elif c == quote:
                quote = ""
        elif depth == 0 and text.startswith(end, at):
            return at
        elif c in "'\"":
            quote = c
        else:
            depth += {"{": 1, "}": -1}.get(c, 0)
        at += 1
    return -1


def unbalanced(code):
    stack, quote, skip = [], "", False
    for c in code:
        if skip:
            skip = False
        elif quote:
            skip = c == "\\"
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([{":
            stack.append(c)
        elif c in ")]}" and (not stack or "([{".index(stack.pop()) != ")]}".index(c)):
            return f"{c} closes nothing"
    return "a text has no end" if quote else f"{stack[-1]} is not closed" if stack else ""


def select(f, where, doc):
    options = doc.get("options")
    if options is None:
        return
    if not isinstance(options, list) or not options or any(not isinstance(o, str) or not o for o in options):
        return f.say(where, "options is no list of texts with an entry")
    if len(set(options)) < len(options):
        f.say(where, "an option is there twice")
    if any(o.lower() == "none" for o in options):
        f.say(where, "the option None cannot be told from none")


def sensor(f, where, doc):
    kind, unit, state_class = doc.get("device_class"), doc.get("unit_of_measurement"), doc.get("state_class")
    if kind is not None and kind not in SENSOR_UNITS:
        f.say(where, f"device_class {kind!r} is none of a sensor")
    elif kind is not None and SENSOR_UNITS[kind] is not None:
        units = SENSOR_UNITS[kind]
        if unit is not None and unit not in units:
            f.say(where, f"unit {unit!r} is none of device_class {kind}: {', '.join(sorted(units)) or 'it has none'}")
        elif unit is None and units and kind != "power_factor":
            f.say(where, f"device_class {kind} needs a unit")
    if state_class is not None and state_class not in STATE_CLASSES:
        f.say(where, f"state_class {state_class!r} is none of {', '.join(sorted(STATE_CLASSES))}")
    if state_class == "measurement" and kind in TOTAL_ALONE or state_class and kind in NOT_NUMBERS:
        f.say(where, f"state_class {state_class} does not go with device_class {kind}")
    if "options" in doc:
        if kind != "enum" or state_class or unit:
            f.say(where, "options go with device_class enum, and with neither state_class nor unit")
        if not isinstance(doc["options"], list) or not doc["options"]:
            f.say(where, "options is no list with an entry")
    if "last_reset_value_template" in doc and state_class != "total":
        f.say(where, "last_reset_value_template goes with state_class total")


def update(f, where, doc):
    if doc.get("device_class") not in (None, "firmware"):
        f.say(where, "device_class of an update is firmware")
    if not doc.keys() & {"state_topic", "latest_version_topic"}:
        f.say(where, "an update without state_topic and latest_version_topic knows no version")
    if ("command_topic" in doc) != ("payload_install" in doc):
        f.say(where, "command_topic and payload_install go together")
    url(f, where, doc, "release_url", ("http", "https"))


def main():
    if sys.argv[1:] not in ([], ["--each"]):
        print(__doc__, file=sys.stderr)
        return 2
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    if sys.argv[1:]:
        found = [f"{n}: {one}" for n, line in enumerate(sys.stdin, 1) for one in judge([line])]
    else:
        found = judge(sys.stdin)
    for one in found:
        print(one)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
