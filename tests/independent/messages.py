"""What a message asks of the terminal (docs/protocol.md, 4), written from that document alone.

Owns reading the objects after a message id into plain JSON values. Refuses to act on them.
"""

from gts_protocol import Malformed, read_tlvs


def read(tag, value):
    """One object as a JSON value; {"malformed": tag} for one that is not to be followed."""
    try:
        return READERS.get(tag, _other(tag))(value)
    except (Malformed, UnicodeDecodeError):
        return {"malformed": tag}


def _need(holds, why):
    if not holds:
        raise Malformed(why)


def _number(value, size):
    _need(len(value) == size, f"{size} bytes")
    return int.from_bytes(value, "big")


def _other(tag):
    return lambda value: {"other": tag, "value": value.hex()}


def _factor(name):
    def read_factor(value):
        factor = _number(value, 2) if value else 200
        _need(factor > 0, "a factor above 0")
        return {name: factor}

    return read_factor


def _update(value):
    return {"update-available": value.decode()}


def _connect(value):
    return {"connect": _number(value, 4) if value else "now"}


def _open_http(value):
    return {"open-http": value.decode()}


def _key_pair(value):
    _need(len(value) == 2 and value[0] in (1, 2), "algorithm, slot")
    return {"generate-key": value[0], "slot": value[1]}


def _polling_rules(value):
    rules = {}
    for tag, inner in read_tlvs(value):
        if tag in RULES:
            name, size, fits = RULES[tag]
            rules[name] = _number(inner, size)
            _need(fits(rules[name]), name)
    _need(rules.get("floor", 0) <= rules.get("ceiling", 0xFFFFFFFF), "floor above ceiling")
    if "quiet" in rules:
        rules["quiet"] = list(divmod(rules["quiet"], 0x10000))
    return {"polling-rules": rules}


def _quiet_fits(window):
    return all(minutes < 1440 for minutes in divmod(window, 0x10000))


RULES = {
    "90": ("interval", 4, lambda seconds: seconds >= 1),
    "91": ("jitter", 1, lambda percent: percent <= 100),
    "92": ("floor", 4, lambda seconds: True),
    "93": ("ceiling", 4, lambda seconds: True),
    "94": ("events", 1, lambda bits: True),
    "95": ("quiet", 4, _quiet_fits),
}


def _transport(value):
    objects = dict(read_tlvs(value))
    asked = {}
    if "96" in objects:
        asked["endpoint"] = objects["96"].decode()
    if "97" in objects:
        asked["lifetime"] = _number(objects["97"], 4)
    return {"transport-update": asked}


def _opaque(value):
    return {"opaque": value.hex()}


READERS = {
    "82": _update,
    "83": _connect,
    "84": _open_http,
    "85": _factor("poll-faster"),
    "86": _factor("poll-slower"),
    "a7": _polling_rules,
    "88": _key_pair,
    "a9": _transport,
    "8f": _opaque,
}
