-- Wireshark dissector for triggering with one-time identities: polls and responses over UDP, and the commands of
-- SecApp in GSMTAP.
--
-- Owns field names and the matching of responses to polls. Holds no key: what is encrypted stays so
-- (`reader-bridge trace annotate` tells it). Governed by docs/protocol.md and docs/card-interface.md; fields and
-- installation are in docs/observe.md.

local gts = Proto("gts", "One-Time Identity Triggering")

local POLL_PLAIN, POLL_AUTHENTICATED, RESPONSE = 0x11, 0x21, 0x81
local PLAIN_LEN, AUTHENTICATED_LEN = 12, 20
local MIN_RESPONSE, MAX_RESPONSE = 27, 255
-- Sent:2, SIG:8 and UID_Rand:8 are encrypted together with MSG.
local TRAILER = 18
-- An answer to a plain poll stays under three times the question.
local MAX_MSG_PLAIN = 64

local FORMS = {
    [POLL_PLAIN] = "poll, plain",
    [POLL_AUTHENTICATED] = "poll, authenticated",
    [RESPONSE] = "response",
}

local f = {
    form = ProtoField.uint8("gts.form", "Form", base.HEX, FORMS),
    resend_counter = ProtoField.uint8("gts.resend_counter", "Resend_Counter", base.DEC),
    uid = ProtoField.bytes("gts.uid", "Identity (UID_n)"),
    mac = ProtoField.bytes("gts.mac", "MAC"),
    n = ProtoField.bytes("gts.n", "N (nonce, second half of the signature)"),
    ciphertext = ProtoField.bytes("gts.ciphertext", "Ciphertext (MSG, Sent, SIG, UID_Rand)"),
    ciphertext_length = ProtoField.uint16("gts.ciphertext.length", "Ciphertext's length", base.DEC),
    msg_length = ProtoField.uint16("gts.msg.length", "MSG's length", base.DEC),
    response_in = ProtoField.framenum("gts.response_in", "Response in", base.NONE, frametype.RESPONSE),
    poll_in = ProtoField.framenum("gts.poll_in", "Response to poll in", base.NONE, frametype.REQUEST),
    first_poll_in = ProtoField.framenum("gts.first_poll_in", "First poll under this identity in", base.NONE, frametype.RETRANS_PREV),
    response_time = ProtoField.relative_time("gts.response_time", "Time since the poll"),
}
gts.fields = f

local e = {
    form = ProtoExpert.new("gts.malformed.form", "The first byte is neither 11, 21 nor 81", expert.group.MALFORMED, expert.severity.ERROR),
    length = ProtoExpert.new("gts.malformed.length", "No datagram of this form has this length", expert.group.MALFORMED, expert.severity.ERROR),
    too_long = ProtoExpert.new("gts.msg.too_long", "MSG is longer than 64 bytes in the answer to a plain poll", expert.group.PROTOCOL, expert.severity.WARN),
    unasked = ProtoExpert.new("gts.response.unasked", "No poll of this source port has been seen before", expert.group.SEQUENCE, expert.severity.NOTE),
    repeated = ProtoExpert.new("gts.response.repeated", "The poll was answered before", expert.group.SEQUENCE, expert.severity.NOTE),
    resent = ProtoExpert.new("gts.poll.resent", "The poll went unanswered before: Resend_Counter is above 0", expert.group.SEQUENCE, expert.severity.NOTE),
}
gts.experts = { e.form, e.length, e.too_long, e.unasked, e.repeated, e.resent }

gts.prefs.udp_ports = Pref.range("UDP ports", "4753", "Ports at which servers answer polls", 65535)
gts.prefs.heuristic = Pref.bool("On other ports, too", false,
    "Take datagrams on any port that have the form of a poll, and the responses to them")

-- What the first pass has found. Tables with the frames' numbers as keys.
local last_poll, first_of, poll_of, response_of, repeated, plain_poll

local function forget()
    -- [flow] = { frame, time, plain }: the last poll in it.
    last_poll = {}
    -- [identity] = frame of its first poll.
    first_of = {}
    -- [frame of a response] = { frame, time } of its poll.
    poll_of = {}
    -- [frame of a poll] = frame of its first response.
    response_of = {}
    repeated = {}
    plain_poll = {}
end
forget()
function gts.init() forget() end

local function flow(source, source_port, destination, destination_port)
    return string.format("%s|%d|%s|%d", tostring(source), source_port, tostring(destination), destination_port)
end

-- The flow that polls take; a response goes the other way.
local function flow_of(pinfo, is_poll)
    if is_poll then
        return flow(pinfo.src, pinfo.src_port, pinfo.dst, pinfo.dst_port)
    end
    return flow(pinfo.dst, pinfo.dst_port, pinfo.src, pinfo.src_port)
end

-- The form, if the datagram has exactly one.
local function form_of(tvb)
    local length = tvb:len()
    if length == 0 then return nil end
    local first = tvb(0, 1):uint()
    if (first == POLL_PLAIN and length == PLAIN_LEN)
        or (first == POLL_AUTHENTICATED and length == AUTHENTICATED_LEN)
        or (first == RESPONSE and length >= MIN_RESPONSE and length <= MAX_RESPONSE) then
        return first
    end
    return nil
end

local function note_poll(tvb, pinfo, plain)
    local uid = tvb(2, 10):bytes():tohex()
    first_of[uid] = first_of[uid] or pinfo.number
    last_poll[flow_of(pinfo, true)] = { pinfo.number, pinfo.rel_ts, plain }
end

local function note_response(pinfo)
    local poll = last_poll[flow_of(pinfo, false)]
    if not poll then return end
    poll_of[pinfo.number] = poll
    plain_poll[pinfo.number] = poll[3]
    if response_of[poll[1]] then
        repeated[pinfo.number] = true
    else
        response_of[poll[1]] = pinfo.number
    end
end

local function dissect_poll(tvb, pinfo, tree, plain)
    local counter, uid = tvb(1, 1), tvb(2, 10)
    local item = tree:add(f.resend_counter, counter)
    tree:add(f.uid, uid)
    if not plain then tree:add(f.mac, tvb(12, 8)) end
    if counter:uint() > 0 then item:add_proto_expert_info(e.resent) end
    local first = first_of[uid:bytes():tohex()]
    if first and first < pinfo.number then tree:add(f.first_poll_in, first):set_generated() end
    local response = response_of[pinfo.number]
    if response then tree:add(f.response_in, response):set_generated() end
    pinfo.cols.info = string.format("Poll %s, Resend_Counter %d%s", uid(0, 4):bytes():tohex():lower(),
        counter:uint(), plain and ", plain" or "")
end

local function dissect_response(tvb, pinfo, tree)
    local ciphertext = tvb(9)
    tree:add(f.n, tvb(1, 8))
    tree:add(f.ciphertext, ciphertext)
    tree:add(f.ciphertext_length, ciphertext, ciphertext:len()):set_generated()
    local msg_length = ciphertext:len() - TRAILER
    local item = tree:add(f.msg_length, ciphertext, msg_length)
    item:set_generated()
    local poll = poll_of[pinfo.number]
    if poll then
        tree:add(f.poll_in, poll[1]):set_generated()
        local seconds = pinfo.rel_ts - poll[2]
        local whole = math.floor(seconds)
        tree:add(f.response_time, NSTime.new(whole, math.floor((seconds - whole) * 1e9 + 0.5))):set_generated()
    else
        tree:add_proto_expert_info(e.unasked)
    end
    if repeated[pinfo.number] then tree:add_proto_expert_info(e.repeated) end
    if plain_poll[pinfo.number] and msg_length > MAX_MSG_PLAIN then item:add_proto_expert_info(e.too_long) end
    pinfo.cols.info = string.format("Response, MSG of %d bytes", msg_length)
end

local function dissect_other(tvb, pinfo, tree)
    local first = tvb:len() > 0 and tvb(0, 1):uint()
    if first then tree:add(f.form, tvb(0, 1)) end
    local what = (not first or FORMS[first]) and e.length or e.form
    tree:add_proto_expert_info(what)
    pinfo.cols.info = string.format("Not a poll or response, %d bytes", tvb:len())
end

function gts.dissector(tvb, pinfo, tree)
    pinfo.cols.protocol = "GTS"
    local form = form_of(tvb)
    local branch = tree:add(gts, tvb())
    if not form then return dissect_other(tvb, pinfo, branch) end
    local is_poll = form ~= RESPONSE
    if not pinfo.visited then
        if is_poll then note_poll(tvb, pinfo, form == POLL_PLAIN) else note_response(pinfo) end
    end
    branch:add(f.form, tvb(0, 1))
    branch:append_text(", " .. FORMS[form])
    if is_poll then
        dissect_poll(tvb, pinfo, branch, form == POLL_PLAIN)
    else
        dissect_response(tvb, pinfo, branch)
    end
end

local udp = DissectorTable.get("udp.port")
local ports = gts.prefs.udp_ports
udp:add(ports, gts)

function gts.prefs_changed()
    if ports ~= gts.prefs.udp_ports then
        udp:remove(ports, gts)
        ports = gts.prefs.udp_ports
        udp:add(ports, gts)
    end
end

-- Whether a poll went the other way before.
local function was_asked(pinfo)
    if pinfo.visited then return poll_of[pinfo.number] end
    return last_poll[flow_of(pinfo, false)]
end

-- Any datagram of 12 bytes that begins with 11 is taken, so this is only for those who ask for it. A response is
-- taken only where a poll went the other way.
gts:register_heuristic("udp", function(tvb, pinfo, tree)
    if not gts.prefs.heuristic then return false end
    local form = form_of(tvb)
    if not form then return false end
    if form == RESPONSE and not was_asked(pinfo) then return false end
    gts.dissector(tvb, pinfo, tree)
    return true
end)

-- SecApp's commands, which the card's side of a trace has as GSMTAP (SIM): their names, and what an outcome holds.

local secapp = Proto("secapp", "SecApp (card of the triggering method)")

-- Whether the body after P3 is sent to the card; otherwise P3 is the length of the answer.
local COMMANDS = {
    [0x40] = { "GET-UID", false },
    [0x42] = { "PROCESS-RESPONSE", true },
    [0x44] = { "SIGN-SESSION", true },
    [0x50] = { "INITIALIZE UPDATE", true },
    [0x82] = { "EXTERNAL AUTHENTICATE", true },
    [0xCA] = { "GET DATA", false },
    [0xE2] = { "STORE DATA", true },
}

local MEANINGS = {
    [0x9000] = "done",
    [0x6581] = "memory failure",
    [0x6700] = "wrong length",
    [0x6985] = "no poll is open",
    [0x6A80] = "not of the form of a response",
    [0x6A82] = "no such application",
    [0x6A86] = "wrong P1 P2",
    [0x6A88] = "no such data",
    [0x6D00] = "no such command",
    [0x6E00] = "no such class",
    [0x9862] = "not authentic: for another identity, or changed on its way",
    [0x9865] = "authentic, but its Sent cannot be",
}

local s = {
    command = ProtoField.string("secapp.command", "Command"),
    data = ProtoField.bytes("secapp.data", "Data"),
    answer = ProtoField.bytes("secapp.answer", "Answer"),
    sw = ProtoField.uint16("secapp.sw", "Status word", base.HEX, MEANINGS),
    uid = ProtoField.bytes("secapp.uid", "Identity (UID_n)"),
    sent = ProtoField.uint16("secapp.outcome.sent", "Sent", base.DEC),
    resend_counter = ProtoField.uint8("secapp.outcome.resend_counter", "Resend_Counter", base.DEC),
    flags = ProtoField.uint8("secapp.outcome.flags", "Flags", base.HEX),
    others = ProtoField.bool("secapp.outcome.flags.others_polled", "Somebody else has polled with this identity", 8, nil, 0x01),
    duplicate = ProtoField.bool("secapp.outcome.flags.duplicate", "The message was executed before", 8, nil, 0x02),
    not_done = ProtoField.bool("secapp.outcome.flags.not_done", "The message could not be executed", 8, nil, 0x04),
    msg = ProtoField.bytes("secapp.outcome.msg", "MSG"),
    polls_lost = ProtoField.uint16("secapp.outcome.polls_lost", "Polls lost", base.DEC),
    answers_lost = ProtoField.uint16("secapp.outcome.answers_lost", "Answers lost", base.DEC),
}
secapp.fields = s

local GSMTAP_PORT, GSMTAP_SIM, HEADER, P3 = 4729, 4, 5, 4
local payload_field = Field.new("udp.payload")

-- One BER-TLV with a short tag at `at`: tag, where its value begins, its length; nil if it is cut off.
local function tlv(range, at)
    if at + 2 > range:len() then return nil end
    local tag, length, value = range(at, 1):uint(), range(at + 1, 1):uint(), at + 2
    if length == 0x81 then
        if at + 3 > range:len() then return nil end
        length, value = range(at + 2, 1):uint(), at + 3
    elseif length > 0x7F then
        return nil
    end
    if value + length > range:len() then return nil end
    return tag, value, length
end

local WHOLE = {
    [0xC4] = { s.sent, 2 },
    [0xC5] = { s.resend_counter, 1 },
    [0xC6] = { s.flags, 1 },
}

local function show_outcome(answer, tree)
    local tag, value, length = tlv(answer, 0)
    if tag ~= 0xE1 then return end
    local branch = tree:add(secapp, answer, "Outcome")
    local at, stop, seen = value, value + length, {}
    while at < stop do
        local inner, begin, len = tlv(answer, at)
        if not inner then return end
        local known = WHOLE[inner]
        if known and known[2] == len then
            seen[inner] = answer(begin, len):uint()
            local item = branch:add(known[1], answer(begin, len))
            if inner == 0xC6 then
                for _, flag in ipairs({ s.others, s.duplicate, s.not_done }) do item:add(flag, answer(begin, 1)) end
            end
        elseif inner == 0xE3 and len > 0 then
            branch:add(s.msg, answer(begin, len))
        end
        at = begin + len
    end
    local sent, counter = seen[0xC4], seen[0xC5]
    if sent and counter and sent > 0 and counter + 1 >= sent then
        branch:add(s.polls_lost, counter + 1 - sent):set_generated()
        branch:add(s.answers_lost, sent - 1):set_generated()
    end
end

local function show_command(apdu, pinfo, tree)
    local cla, ins = apdu(0, 1):uint(), apdu(1, 1):uint()
    local known = bit32.band(cla, 0xF0) == 0x80 and COMMANDS[ins]
    local is_select = cla == 0x00 and ins == 0xA4
    if not known and not is_select then return end
    local name, sends = "SELECT", true
    if known then name, sends = known[1], known[2] end
    local lc = sends and apdu(P3, 1):uint() or 0
    if HEADER + lc > apdu:len() then return end
    if is_select and lc >= HEADER and not apdu(HEADER, lc):bytes():tohex():find("F047545341", 1, true) then return end
    local branch = tree:add(secapp, apdu, "SecApp, " .. name)
    branch:add(s.command, apdu(0, HEADER), name)
    if lc > 0 then branch:add(s.data, apdu(HEADER, lc)) end
    local rest = apdu:len() - HEADER - lc
    local told = name
    if rest >= 2 then
        local sw = apdu(apdu:len() - 2, 2)
        branch:add(s.sw, sw)
        told = string.format("%s: %04X %s", name, sw:uint(), MEANINGS[sw:uint()] or "")
        if rest > 2 then
            local answer = apdu(HEADER + lc, rest - 2)
            branch:add(s.answer, answer)
            if ins == 0x40 and answer:len() >= PLAIN_LEN then branch:add(s.uid, answer(2, 10)) end
            show_outcome(answer, branch)
        end
    end
    pinfo.cols.info = "SecApp " .. told
end

function secapp.dissector(_, pinfo, tree)
    local payload = pinfo.dst_port == GSMTAP_PORT and payload_field()
    if not payload then return end
    local range = payload.range
    if range:len() < 16 or range(2, 1):uint() ~= GSMTAP_SIM then return end
    local header = range(1, 1):uint() * 4
    if header >= 16 and range:len() >= header + HEADER then
        show_command(range(header), pinfo, tree)
    end
end

register_postdissector(secapp)
