-- Wireshark and tshark: samepath's option in the tunnel (docs/protocol.md, section 2), as fields `samepath.*`.
-- Use: tshark -X lua_script:docs/wireshark/samepath.lua …, or copy it to Wireshark's folder of personal Lua plugins.

local CLASS, TYPE, VERSION, DATA = 0xff53, 1, 3, 36
local KINDS = { [1] = "Query", [2] = "FirstPacket", [3] = "Redirect", [4] = "Hello", [5] = "Lookup", [6] = "Gather" }

-- What follows the version: field, offset in the option data, bytes.
local LAYOUT = {
    { "kind", 1, 1 }, { "hops", 2, 1 }, { "zone", 3, 1 }, { "ingress", 4, 2 }, { "owner", 6, 2 }, { "generation", 8, 4 },
    { "epoch", 12, 4 }, { "sender", 16, 2 }, { "key", 18, 1 }, { "stream", 19, 1 }, { "counter", 20, 8 }, { "tag", 28, 8 },
}

local samepath = Proto("samepath", "samepath tunnel option")
local fields = {
    version = ProtoField.uint8("samepath.version", "Version"),
    kind = ProtoField.uint8("samepath.kind", "Kind", base.DEC, KINDS),
    hops = ProtoField.uint8("samepath.hops", "Crossings of the cluster link"),
    zone = ProtoField.uint8("samepath.zone", "Zone"),
    ingress = ProtoField.uint16("samepath.ingress", "Ingress node"),
    owner = ProtoField.uint16("samepath.owner", "Owner node"),
    generation = ProtoField.uint32("samepath.generation", "Generation"),
    epoch = ProtoField.uint32("samepath.epoch", "Epoch of the sender's view"),
    sender = ProtoField.uint16("samepath.sender", "Sender node"),
    key = ProtoField.uint8("samepath.key", "Key number"),
    stream = ProtoField.uint8("samepath.stream", "Stream"),
    counter = ProtoField.uint64("samepath.counter", "Counter"),
    tag = ProtoField.bytes("samepath.tag", "Tag"),
}
samepath.fields = fields

local other = ProtoExpert.new("samepath.other_version", "an option of another version", expert.group.UNDECODED,
    expert.severity.WARN)
samepath.experts = { other }

local options = Field.new("geneve.options")

-- The data of our option among `bytes`, the options of one Geneve header; nil if it is not there.
local function find(bytes)
    local at = 0
    while at + 4 <= bytes:len() do
        local length = bit.band(bytes(at + 3, 1):uint(), 0x1f) * 4
        if at + 4 + length > bytes:len() then
            return nil
        end
        if bytes(at, 2):uint() == CLASS and bytes(at + 2, 1):uint() == TYPE and length > 0 then
            return bytes(at + 4, length)
        end
        at = at + 4 + length
    end
    return nil
end

local function add(data, tree, info)
    local branch = tree:add(samepath, data)
    branch:add(fields.version, data(0, 1))
    if data(0, 1):uint() ~= VERSION or data:len() ~= DATA then
        branch:add_proto_expert_info(other)
        return
    end
    for _, part in ipairs(LAYOUT) do
        branch:add(fields[part[1]], data(part[2], part[3]))
    end
    local kind = KINDS[data(1, 1):uint()] or "unknown kind"
    local text = kind .. " of node " .. data(16, 2):uint() .. ", ingress " .. data(4, 2):uint() .. ", owner "
        .. data(6, 2):uint() .. ", generation " .. data(8, 4):uint()
    branch:append_text(": " .. text)
    info:append(" [samepath " .. text .. "]")
end

function samepath.dissector(_, pinfo, tree)
    for _, found in ipairs({ options() }) do
        local data = find(found.range)
        if data then
            add(data, tree, pinfo.cols.info)
        end
    end
end

register_postdissector(samepath)
