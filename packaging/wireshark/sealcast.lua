-- Wireshark dissector of Sealcast's sealed messages (docs/envelope.md, version 2) in MQTT.
--
-- It shows what everybody can read of a sealed message: who sealed it, under which epoch, when. With a key log of an agent
-- (`sealcast agent --keylog FILE`) it also opens the message, checks its tag, and shows what is inside. It does not check
-- signatures: these need the ledger.
--
--   tshark -X lua_script:sealcast.lua -o sealcast.keylog:FILE -r capture.pcapng -Y sealcast
--
-- Copy it to Wireshark's folder for personal Lua plugins to have it always. It runs on Lua 5.2 and later, and brings its own
-- AES-GCM and SHA-256, since not each Wireshark offers these to Lua.

local bit = bit32 or bit
local band, bor, bxor = bit.band, bit.bor, bit.bxor
local lshift, rshift = bit.lshift, bit.rshift

-- ---------------------------------------------------------------------------------------------------- Bytes

local function word(text, at)
    local a, b, c, d = text:byte(at, at + 3)
    return bor(lshift(a, 24), lshift(b, 16), lshift(c, 8), d)
end

local function of_word(value)
    return string.char(rshift(value, 24) % 256, rshift(value, 16) % 256, rshift(value, 8) % 256, value % 256)
end

local function add32(...)
    local sum = 0
    for _, value in ipairs({ ... }) do
        sum = sum + value % 4294967296
    end
    return sum % 4294967296
end

local function xor_bytes(a, b)
    local out = {}
    for at = 1, math.min(#a, #b) do
        out[at] = string.char(bxor(a:byte(at), b:byte(at)))
    end
    return table.concat(out)
end

local function to_hex(text)
    return (text:gsub(".", function(c) return string.format("%02x", c:byte()) end))
end

local function from_hex(text)
    return (text:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

-- ---------------------------------------------------------------------------------------------------- SHA-256, HKDF

local function fraction(number, root)
    local value = number ^ (1 / root)
    return math.floor((value - math.floor(value)) * 4294967296)
end

local ROUNDS, START = {}, {}
do
    local candidate = 2
    while #ROUNDS < 64 do
        local prime = true
        for divisor = 2, math.floor(math.sqrt(candidate)) do
            if candidate % divisor == 0 then
                prime = false
                break
            end
        end
        if prime then
            if #START < 8 then
                START[#START + 1] = fraction(candidate, 2)
            end
            ROUNDS[#ROUNDS + 1] = fraction(candidate, 3)
        end
        candidate = candidate + 1
    end
end

local function rotate(value, by)
    return bor(rshift(value, by), lshift(value, 32 - by))
end

local function sha256(text)
    local padded = text .. "\128" .. string.rep("\0", (55 - #text) % 64) .. "\0\0\0\0" .. of_word(#text * 8)
    local state = { table.unpack(START) }
    for block = 1, #padded, 64 do
        local w = {}
        for at = 1, 16 do
            w[at] = word(padded, block + 4 * (at - 1))
        end
        for at = 17, 64 do
            local x, y = w[at - 15], w[at - 2]
            local s0 = bxor(rotate(x, 7), rotate(x, 18), rshift(x, 3))
            local s1 = bxor(rotate(y, 17), rotate(y, 19), rshift(y, 10))
            w[at] = add32(w[at - 16], s0, w[at - 7], s1)
        end
        local a, b, c, d, e, f, g, h = table.unpack(state)
        for at = 1, 64 do
            local s1 = bxor(rotate(e, 6), rotate(e, 11), rotate(e, 25))
            local ch = bxor(band(e, f), band(bit.bnot(e), g))
            local t1 = add32(h, s1, ch, ROUNDS[at], w[at])
            local s0 = bxor(rotate(a, 2), rotate(a, 13), rotate(a, 22))
            local maj = bxor(band(a, b), band(a, c), band(b, c))
            h, g, f, e, d, c, b, a = g, f, e, add32(d, t1), c, b, a, add32(t1, s0, maj)
        end
        for at, value in ipairs({ a, b, c, d, e, f, g, h }) do
            state[at] = add32(state[at], value)
        end
    end
    local out = {}
    for at = 1, 8 do
        out[at] = of_word(state[at])
    end
    return table.concat(out)
end

local function hmac(key, text)
    key = key .. string.rep("\0", 64 - #key)
    local inner, outer = string.rep("\54", 64), string.rep("\92", 64)
    return sha256(xor_bytes(key, outer) .. sha256(xor_bytes(key, inner) .. text))
end

-- RFC 9605, 4.4.2, for AES_128_GCM_SHA256_128. One block of HKDF-Expand is enough for key and salt.
local function derive(base_key, kid)
    local secret = hmac("", base_key)
    local id = string.rep("\0", 8 - #kid) .. kid .. "\0\4"
    local key = hmac(secret, "SFrame 1.0 Secret key " .. id .. "\1"):sub(1, 16)
    local salt = hmac(secret, "SFrame 1.0 Secret salt " .. id .. "\1"):sub(1, 12)
    return key, salt
end

-- ---------------------------------------------------------------------------------------------------- AES-128-GCM

local function double(value)
    value = value * 2
    return value > 255 and bxor(value - 256, 27) or value
end

local SBOX = {}
do
    -- Powers of 3, which generates the field, and their inverses.
    local p, q = 1, 1
    repeat
        p = bxor(p, double(p))
        q = bxor(q, lshift(q, 1))
        q = bxor(q, lshift(q, 2))
        q = band(bxor(q, lshift(q, 4)), 255)
        if q >= 128 then
            q = bxor(q, 9)
        end
        local spread = bxor(q, lshift(q, 1), lshift(q, 2), lshift(q, 3), lshift(q, 4))
        SBOX[p] = bxor(band(bxor(spread, rshift(spread, 8)), 255), 99)
    until p == 1
    SBOX[0] = 99
end

local function expand(key)
    local w, rcon = { key:byte(1, 16) }, 1
    for at = 17, 176, 4 do
        local a, b, c, d = w[at - 4], w[at - 3], w[at - 2], w[at - 1]
        if (at - 1) % 16 == 0 then
            a, b, c, d = bxor(SBOX[b], rcon), SBOX[c], SBOX[d], SBOX[a]
            rcon = double(rcon)
        end
        w[at], w[at + 1] = bxor(w[at - 16], a), bxor(w[at - 15], b)
        w[at + 2], w[at + 3] = bxor(w[at - 14], c), bxor(w[at - 13], d)
    end
    return w
end

local function encrypt(w, block)
    local s = { block:byte(1, 16) }
    for at = 1, 16 do
        s[at] = bxor(s[at], w[at])
    end
    for round = 1, 10 do
        local t = {}
        for at = 0, 15 do
            -- Row r is shifted by r columns.
            t[at + 1] = SBOX[s[(at + 4 * (at % 4)) % 16 + 1]]
        end
        if round < 10 then
            for column = 1, 13, 4 do
                local a, b, c, d = t[column], t[column + 1], t[column + 2], t[column + 3]
                local all = bxor(a, b, c, d)
                t[column] = bxor(a, all, double(bxor(a, b)))
                t[column + 1] = bxor(b, all, double(bxor(b, c)))
                t[column + 2] = bxor(c, all, double(bxor(c, d)))
                t[column + 3] = bxor(d, all, double(bxor(d, a)))
            end
        end
        for at = 1, 16 do
            s[at] = bxor(t[at], w[16 * round + at])
        end
    end
    return string.char(table.unpack(s))
end

-- The product in the field of GCM (NIST SP 800-38D, 6.3), of four words each.
local function multiply(x, h)
    local v1, v2, v3, v4 = h[1], h[2], h[3], h[4]
    local z1, z2, z3, z4 = 0, 0, 0, 0
    for at = 1, 4 do
        for shift = 31, 0, -1 do
            if band(rshift(x[at], shift), 1) == 1 then
                z1, z2, z3, z4 = bxor(z1, v1), bxor(z2, v2), bxor(z3, v3), bxor(z4, v4)
            end
            local low = band(v4, 1)
            v4 = bor(rshift(v4, 1), lshift(band(v3, 1), 31))
            v3 = bor(rshift(v3, 1), lshift(band(v2, 1), 31))
            v2 = bor(rshift(v2, 1), lshift(band(v1, 1), 31))
            v1 = rshift(v1, 1)
            if low == 1 then
                v1 = bxor(v1, 0xe1000000)
            end
        end
    end
    return { z1, z2, z3, z4 }
end

local function pad(text)
    return text .. string.rep("\0", -#text % 16)
end

local function ghash(h, aad, data)
    local text = pad(aad) .. pad(data) .. "\0\0\0\0" .. of_word(#aad * 8) .. "\0\0\0\0" .. of_word(#data * 8)
    local y = { 0, 0, 0, 0 }
    for at = 1, #text, 16 do
        for part = 1, 4 do
            y[part] = bxor(y[part], word(text, at + 4 * (part - 1)))
        end
        y = multiply(y, h)
    end
    return of_word(y[1]) .. of_word(y[2]) .. of_word(y[3]) .. of_word(y[4])
end

-- The plaintext, or nothing if the tag does not fit.
local function open_gcm(key, nonce, aad, data, tag)
    local w = expand(key)
    local zero = encrypt(w, string.rep("\0", 16))
    local h = { word(zero, 1), word(zero, 5), word(zero, 9), word(zero, 13) }
    if xor_bytes(ghash(h, aad, data), encrypt(w, nonce .. "\0\0\0\1")) ~= tag then
        return nil
    end
    local out = {}
    for block = 1, math.ceil(#data / 16) do
        local part = data:sub(16 * block - 15, 16 * block)
        out[block] = xor_bytes(part, encrypt(w, nonce .. of_word(block + 1)))
    end
    return table.concat(out)
end

-- ---------------------------------------------------------------------------------------------------- The key log

local proto = Proto("sealcast", "Sealcast sealed message")
proto.prefs.keylog = Pref.string("Key log", "", "File that `sealcast agent --keylog` writes")

-- Base keys by the epoch's last 10 bits. Several groups, and generations, may have the same bits.
local epochs, keys, read_file, read_bytes = {}, {}, nil, 0

local function read_keylog()
    local file = proto.prefs.keylog ~= "" and io.open(proto.prefs.keylog, "r")
    if not file then
        return
    end
    local size = file:seek("end")
    if read_file ~= proto.prefs.keylog or size < read_bytes then
        epochs, keys, read_bytes, read_file = {}, {}, 0, proto.prefs.keylog
    end
    file:seek("set", read_bytes)
    for line in file:lines() do
        local group, generation, epoch, key = line:match("^SEALCAST_BASE_KEY (%d+) (%d+) (%d+) (%x+)$")
        if key and #key == 64 then
            local tag = tonumber(epoch) % 1024
            epochs[tag] = epochs[tag] or {}
            table.insert(epochs[tag], { group = tonumber(group), generation = tonumber(generation),
                epoch = tonumber(epoch), base_key = from_hex(key) })
        end
    end
    read_bytes = size
    file:close()
end

function proto.init()
    epochs, keys, read_file, read_bytes = {}, {}, nil, 0
    read_keylog()
end

-- ---------------------------------------------------------------------------------------------------- Fields

local PURPOSES = { [0] = "message", [1] = "will", [2] = "retained message, sealed again", [3] = "tombstone" }
local PROOFS = { [0] = "signed alone", [1] = "signed in a batch", [2] = "not signed" }

local f = {
    version = ProtoField.uint8("sealcast.version", "Version of the envelope"),
    kid = ProtoField.bytes("sealcast.kid", "Key id (KID)"),
    start = ProtoField.uint32("sealcast.start", "Start", base.HEX),
    leaf = ProtoField.uint16("sealcast.leaf", "Leaf of the sender"),
    epoch_tag = ProtoField.uint16("sealcast.epoch_tag", "Epoch, last 10 bits"),
    ctr = ProtoField.bytes("sealcast.ctr", "Counter (CTR)"),
    time = ProtoField.absolute_time("sealcast.time", "Sealed at", base.UTC),
    counter = ProtoField.uint32("sealcast.counter", "Number of the message"),
    ciphertext = ProtoField.bytes("sealcast.ciphertext", "Ciphertext"),
    tag = ProtoField.bytes("sealcast.tag", "Tag"),
    group = ProtoField.uint16("sealcast.group", "Group"),
    generation = ProtoField.uint32("sealcast.generation", "Generation"),
    epoch = ProtoField.uint64("sealcast.epoch", "Epoch"),
    flags = ProtoField.uint8("sealcast.flags", "Flags", base.HEX),
    retain = ProtoField.bool("sealcast.flags.retain", "Published with RETAIN"),
    acknowledged = ProtoField.bool("sealcast.flags.acknowledged", "Published with QoS 1 or 2"),
    purpose = ProtoField.uint8("sealcast.flags.purpose", "Purpose", base.DEC, PURPOSES),
    mode = ProtoField.uint8("sealcast.flags.mode", "Proof", base.DEC, PROOFS),
    distance = ProtoField.uint16("sealcast.report.distance", "Ledger report: distance"),
    piece = ProtoField.uint16("sealcast.report.piece", "Ledger report: piece of the head", base.HEX),
    properties = ProtoField.bytes("sealcast.properties", "MQTT 5 properties"),
    payload = ProtoField.bytes("sealcast.payload", "Payload"),
    text = ProtoField.string("sealcast.payload.text", "Payload as text"),
    proof = ProtoField.bytes("sealcast.proof", "Proof (not checked here)"),
}
proto.fields = f

local no_key = ProtoExpert.new("sealcast.no_key", "No key of this epoch in the key log", expert.group.DECRYPTION,
    expert.severity.NOTE)
local bad_tag = ProtoExpert.new("sealcast.bad_tag", "The tag does not fit: changed, moved from another topic, or of \
another group", expert.group.DECRYPTION, expert.severity.WARN)
local malformed = ProtoExpert.new("sealcast.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
proto.experts = { no_key, bad_tag, malformed }

-- ---------------------------------------------------------------------------------------------------- The envelope

local MARKER = 0xFD
local TAG_BYTES, REPORT_BYTES, SIGNATURE_BYTES = 16, 3, 64
local YEARS_MS = 2 ^ 40

local function number(text)
    local value = 0
    for at = 1, #text do
        value = value * 256 + text:byte(at)
    end
    return value
end

-- A KID or CTR of the config byte: its bytes, and where the rest begins.
local function identifier(frame, bits, at)
    if bits < 8 then
        return bits == 0 and "" or string.char(bits), at
    end
    local length = bits - 7
    return frame:sub(at, at + length - 1), at + length
end

-- What stands outside, or nothing if it is no envelope.
local function parse(frame)
    if #frame < 2 or frame:byte(1) ~= MARKER then
        return nil
    end
    local config = frame:byte(2)
    local kid, at = identifier(frame, rshift(config, 4), 3)
    local ctr, body = identifier(frame, band(config, 15), at)
    local inside = #frame - body + 1 - TAG_BYTES
    if #kid > 6 or #ctr > 8 or inside < 1 + REPORT_BYTES then
        return nil
    end
    -- As one number CTR would be more than Lua 5.2 holds exactly.
    local id, whole = number(kid), string.rep("\0", 8 - #ctr) .. ctr
    return {
        kid = kid, kid_at = 2, ctr = ctr, ctr_at = at - 1, body = body - 1, inside = inside,
        header = frame:sub(2, body - 1), data = frame:sub(body, #frame - TAG_BYTES), tag = frame:sub(-TAG_BYTES),
        start = math.floor(id / 2 ^ 24), leaf = math.floor(id / 2 ^ 10) % 2 ^ 14, epoch_tag = id % 2 ^ 10,
        time = number(whole:sub(1, 5)), counter = number(whole:sub(6)),
    }
end

-- Of all times with these 40 bits, the one nearest to when the packet was captured, in ms.
local function nearest(time_ms, captured_ms)
    local turns = math.floor((captured_ms - time_ms) / YEARS_MS + 0.5)
    return time_ms + math.max(turns, 0) * YEARS_MS
end

-- RFC 9605, 4.4.3.
local function nonce(salt, ctr)
    return xor_bytes(salt, string.rep("\0", 12 - #ctr) .. ctr)
end

local function open(envelope, topic)
    local tried = false
    for _, epoch in ipairs(epochs[envelope.epoch_tag] or {}) do
        tried = true
        local name = to_hex(epoch.base_key) .. to_hex(envelope.kid)
        if not keys[name] then
            keys[name] = { derive(epoch.base_key, envelope.kid) }
        end
        local key, salt = keys[name][1], keys[name][2]
        local group = string.char(math.floor(epoch.group / 256), epoch.group % 256)
        local aad = envelope.header .. string.char(MARKER) .. group .. topic
        local inside = open_gcm(key, nonce(salt, envelope.ctr), aad, envelope.data, envelope.tag)
        if inside then
            return inside, epoch
        end
    end
    return nil, nil, tried
end

-- How many hashes the path of a leaf has in a tree of RFC 9162, 2.1.
local function path_length(place, last)
    local length = 0
    while last > 0 do
        if place % 2 == 1 or place < last then
            length = length + 1
        end
        place, last = math.floor(place / 2), math.floor(last / 2)
    end
    return length
end

local function proof_bytes(mode, inside)
    if mode == 0 then
        return SIGNATURE_BYTES
    elseif mode == 1 and #inside >= SIGNATURE_BYTES + 2 then
        local place, last = inside:byte(-SIGNATURE_BYTES - 2, -SIGNATURE_BYTES - 1)
        return 32 * path_length(place, last) + 2 + SIGNATURE_BYTES
    end
    return 0
end

-- The length of the properties, and how many bytes say so.
local function variable_integer(text, at)
    local value, factor = 0, 1
    for length = 1, 4 do
        local byte = text:byte(at + length - 1)
        if not byte then
            break
        end
        value, factor = value + byte % 128 * factor, factor * 128
        if byte < 128 then
            return value, length
        end
    end
    return nil
end

local function show_inside(tree, inside)
    local tvb = ByteArray.new(inside, true):tvb("Opened message")
    local flags = inside:byte(1)
    local mode = band(rshift(flags, 5), 3)
    local flag = tree:add(f.flags, tvb(0, 1))
    flag:add(f.retain, tvb(0, 1), band(flags, 2) ~= 0)
    flag:add(f.acknowledged, tvb(0, 1), band(flags, 4) ~= 0)
    flag:add(f.purpose, tvb(0, 1), band(rshift(flags, 3), 3))
    flag:add(f.mode, tvb(0, 1), mode)
    tree:add(f.distance, tvb(1, 2), tvb(1, 3):bitfield(0, 12))
    tree:add(f.piece, tvb(2, 2), tvb(1, 3):bitfield(12, 12))
    local at = 1 + REPORT_BYTES
    local rest = #inside - at - proof_bytes(mode, inside)
    if band(flags, 1) == 1 then
        local length, bytes = variable_integer(inside, at + 1)
        if not length or bytes + length > rest then
            return tree:add_proto_expert_info(malformed)
        end
        tree:add(f.properties, tvb(at + bytes, length))
        at, rest = at + bytes + length, rest - bytes - length
    end
    if rest < 0 then
        return tree:add_proto_expert_info(malformed)
    end
    if rest > 0 then
        tree:add(f.payload, tvb(at, rest))
        tree:add(f.text, tvb(at, rest), tvb(at, rest):string(ENC_UTF_8))
    end
    if at + rest < #inside then
        tree:add(f.proof, tvb(at + rest))
    end
end

local function show(range, topic, captured_ms, tree)
    local frame = range:bytes():raw()
    local envelope = parse(frame)
    if not envelope then
        return false
    end
    local own = tree:add(proto, range)
    own:add(f.version, range(0, 1), 2)
    -- A short one stands in the config byte.
    local id = #envelope.kid > 1 and range(envelope.kid_at, #envelope.kid) or range(1, 1)
    local key_id = own:add(f.kid, id)
    key_id:add(f.start, id, envelope.start)
    key_id:add(f.leaf, id, envelope.leaf)
    key_id:add(f.epoch_tag, id, envelope.epoch_tag)
    local count = #envelope.ctr > 1 and range(envelope.ctr_at, #envelope.ctr) or range(1, 1)
    local counter = own:add(f.ctr, count)
    local sealed_ms = nearest(envelope.time, captured_ms)
    counter:add(f.time, count, NSTime.new(math.floor(sealed_ms / 1000), sealed_ms % 1000 * 1000000))
    counter:add(f.counter, count, envelope.counter)
    own:add(f.ciphertext, range(envelope.body, envelope.inside))
    own:add(f.tag, range(range:len() - TAG_BYTES, TAG_BYTES))
    own:append_text(string.format(", leaf %d, message %d", envelope.leaf, envelope.counter))
    if proto.prefs.keylog == "" then
        return true
    end
    local inside, epoch, tried = open(envelope, topic)
    if not inside then
        -- The log may have grown.
        read_keylog()
        inside, epoch, tried = open(envelope, topic)
    end
    if not inside then
        own:add_proto_expert_info(tried and bad_tag or no_key)
        return true
    end
    own:add(f.group, epoch.group):set_generated()
    own:add(f.generation, epoch.generation):set_generated()
    own:add(f.epoch, UInt64.new(epoch.epoch)):set_generated()
    show_inside(own, inside)
    return true
end

-- ---------------------------------------------------------------------------------------------------- In MQTT

local topic_field, message_field = Field.new("mqtt.topic"), Field.new("mqtt.msg")

-- MQTT's dissector has no place for others, so this one comes after it, and looks for payloads that begin as an envelope
-- does. A message without its topic (a topic alias of MQTT 5) is shown, and cannot be opened.
function proto.dissector(_, pinfo, tree)
    if not message_field() then
        return
    end
    local captured_ms, topic, found = math.floor(tonumber(tostring(pinfo.abs_ts)) * 1000), "", false
    for _, info in ipairs({ all_field_infos() }) do
        if info.name == "mqtt.topic" then
            topic = info.range:bytes():raw()
        elseif info.name == "mqtt.msg" then
            found = show(info.range, topic, captured_ms, tree) or found
            topic = ""
        end
    end
    if found then
        pinfo.cols.protocol = "MQTT/Sealcast"
    end
end

register_postdissector(proto)
