"""A state in parts, as Lua; see `redis.deltas`.

An entry of a stream is a whole state (`d`), or says from which seq it goes (`f`). The newest of the latter kind is all
in the hash of parts, as long as `k` there is its id.
"""

from __future__ import annotations

from typing import Final

IN_PARTS: Final = """
local function in_parts(newest)  -- Whether the newest state is kept in parts.
  return newest[2][1] == 'f'
end
local function complete(newest, parts)  -- Whether it is there: of parts, whether they are those of this entry.
  return not in_parts(newest) or redis.pcall('HGET', parts, 'k') == newest[1]
end
local function state_of(newest, parts)  -- The fields of its entry, and its parts.
  if not in_parts(newest) then return newest[2], {} end
  return {'h', newest[2][4]}, redis.call('HGETALL', parts)
end
"""

APPEND: Final = """
-- The usual case alone: where anything is otherwise than expected no state is changed, and the append is made whole.
-- KEYS: stream
-- ARGV: id, epoch, seq, the seq that it goes from ('': all parts are given), heartbeat, lease ms, ms to keep or '',
--       queued at or '' (not to be listed again), number of values of events; where there are any: the least that is
--       kept, the last, and n, event...; name, text ('': it is gone)...
local stream, session, epoch, from = KEYS[1], ARGV[1], ARGV[2], ARGV[4]
local base = string.sub(stream, 1, -3 - #session)
local meta, events, parts = base .. 'm:' .. session, base .. 'e:' .. session, base .. 'p:' .. session
local id, first = epoch .. '-' .. ARGV[3], 10
if redis.call('HGET', meta, 'e') ~= epoch then return {'other'} end
if from ~= '' then
  -- What was written since has set `k` too, or removed it; or it was whole, and what is set here leads on all the same.
  if redis.pcall('HGET', parts, 'k') ~= epoch .. '-' .. from then return {'other'} end
else
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if not newest or string.match(newest[1], '^%d+') ~= epoch then return {'other'} end
end
local entry, set, gone, inline = {'f', from, 'h', ARGV[5]}, {'k', id}, {}, from ~= ''
if ARGV[9] ~= '0' then
  first = 12 + ARGV[9]
  local name = epoch .. '-' .. ARGV[11]
  local added = redis.pcall('XADD', events, 'NOMKSTREAM', 'MINID', '~', epoch .. '-' .. ARGV[10], name,
    unpack(ARGV, 12, first - 1))
  if type(added) ~= 'string' then return {'other'} end
  entry[5], entry[6] = 'n', ARGV[11]
end
local n, m = #entry, 2
for i = first, #ARGV, 2 do
  local name, text = ARGV[i], ARGV[i + 1]
  if inline then
    local large = #text > 4096  -- It is read in the hash, where it stands once.
    entry[n + 1], entry[n + 2] = large and '@' .. name or name, large and '' or text
    n = n + 2
  end
  if text == '' then
    gone[#gone + 1] = name
  else
    set[m + 1], set[m + 2] = name, text
    m = m + 2
  end
end
local added = redis.pcall('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', 64, id, unpack(entry))
if type(added) ~= 'string' then return {'other'} end
if not inline then redis.call('DEL', parts) end
-- Lua unpacks no more than some 8,000 values at once.
for i = 1, m, 2000 do redis.call('HSET', parts, unpack(set, i, math.min(i + 1999, m))) end
if #gone > 0 then redis.call('HDEL', parts, unpack(gone)) end
local lease = base .. 'l:' .. session .. ':' .. epoch
local lapsed = redis.call('EXISTS', lease) == 0
redis.call('SET', lease, ARGV[5], 'PX', ARGV[6])
if ARGV[7] ~= '' then
  for _, each in ipairs({stream, meta, events, parts}) do redis.call('PEXPIRE', each, ARGV[7]) end
end
local evicted = ARGV[8] ~= '' and redis.pcall('ZADD', base .. 'i', 'NX', ARGV[8], session) == 1
return {'done', lapsed and 1 or 0, evicted and 1 or 0}
"""
