"""Handing sessions out in Redis, as Lua; see `stores.taking`.

What is queued stands in the index of lists; what is to be gone on with stands there a second time, by how often it was
begun (`again1`, `again2`, ...), as `settle()` of `redis.index_lua` keeps it, which also rings. A process that waits
stands in one sorted set (`q:GROUP`) with all that want the same; what that is stands in `q`, so that ringing goes
through as many wishes as there are different ones. `n:NAME` says that it was heard of, and in which groups it waits.

Who is rung no longer stands among those that wait. `g:NAME` says for what it was: where it leaves, or has enough, and
has not taken that, the next is rung.
"""

from __future__ import annotations

from typing import Final

from .index_lua import BEHIND, SETTLE
from .parts_lua import IN_PARTS

_RUNG: Final = """
local function rung_for(base, process, at, given)  -- What it was rung for, and is still to be had by somebody.
  local bell, seen, found = base .. 'g:' .. process, {}, {}
  local rings = redis.pcall('XRANGE', bell, '-', '+')
  for _, each in ipairs(rings.err and {} or rings) do
    local id = each[2][4]
    if id and not seen[id] and not given[id] then
      seen[id] = true
      pcall(settle, base, id, at, false, found)
    end
  end
  if #rings > 0 then redis.call('DEL', bell) end  -- Each is told once.
  return found
end
"""

TAKE: Final = (
    SETTLE
    + _RUNG
    + BEHIND
    + IN_PARTS
    + """
-- ARGV: base, process, ms that a reservation lasts (0: it is only told when the oldest was queued, and what is spent),
--       ms that the process is heard of, due ones to settle, sessions to look at in vain, spent ones to tell, number of
--       sessions left out, session..., then for each wish: the digest of its group, what it is as JSON, how many
local base, process, at = ARGV[1], ARGV[2], clock()
local index, without, later, taken = base .. 'x', {}, {}, {}
local looks, head = ARGV[3] == '0', nil
for _, each in ipairs(redis.call('ZRANGEBYSCORE', base .. 't', '-inf', at, 'LIMIT', 0, ARGV[5])) do
  settle(base, each, at, false, later)
end
for i = 9, 8 + ARGV[8] do without[ARGV[i]] = true end
local function size(dimensions, buckets)
  local number = 0
  for _, bucket in ipairs(buckets) do
    for _, each in ipairs(dimensions) do
      number = number + redis.call('ZCOUNT', index .. ':' .. bucket .. each, '-inf', '+inf')
    end
  end
  return number
end
local function oldest(wanted, buckets)  -- One after the other, of the dimension with the fewest; nil behind the last.
  local goes_by = {}
  for _, each in ipairs(wanted.p) do goes_by[#goes_by + 1] = ':' .. each end
  if #goes_by == 0 then goes_by[1] = '' end
  if #wanted.l > 0 then
    local fewest = size(goes_by, buckets)
    for _, each in ipairs(wanted.l) do
      local number = size({':' .. each}, buckets)
      if number < fewest then goes_by, fewest = {':' .. each}, number end
    end
  end
  local heads = {}
  for _, bucket in ipairs(buckets) do
    for _, each in ipairs(goes_by) do
      heads[#heads + 1] = {set = index .. ':' .. bucket .. each, bucket = bucket, read = 0, next = 1, list = {}}
    end
  end
  return function()
    local first, score, id
    for _, head in ipairs(heads) do
      if head.next > #head.list and not head.ended then
        head.list = redis.call('ZRANGEBYSCORE', head.set, '-inf', '+inf', 'WITHSCORES', 'LIMIT', head.read, 20)
        head.read, head.next, head.ended = head.read + 20, 1, #head.list < 40
      end
      local one, stands = head.list[head.next], tonumber(head.list[head.next + 1] or '')
      if one and (not first or stands < score or stands == score and below(one, id)) then
        first, score, id = head, stands, one
      end
    end
    if not first then return nil end
    first.next = first.next + 2
    return id, first.bucket, score
  end
end
local function is_wanted(wanted, id, bucket)
  if #wanted.p == 0 and #wanted.l == 0 then return true end
  local has = {}
  for each in string.gmatch(redis.call('HGET', index, id) or '', '%z([^%z]+)') do
    if string.sub(each, 1, #bucket + 1) == bucket .. ':' then has[string.sub(each, #bucket + 2)] = true end
  end
  return fits(wanted, has)
end
local function newest_of(id)  -- The key of one that can be taken, and its record where it was never begun.
  local known = redis.pcall('HMGET', base .. 'm:' .. id, 'e', 'f', 's')
  local newest = redis.pcall('XREVRANGE', base .. 's:' .. id, '+', '-', 'COUNT', 1)[1]
  local place = known[1] and known[3] and place_of(base, id, known)
  if not place or not newest or string.match(newest[1], '^%d+') ~= known[1] then return nil end
  if not complete(newest, base .. 'p:' .. id) then return nil end  -- No claim would expect it.
  if place == 'queued' and newest[2][1] == 'd' then return newest[1], newest[2][2] end
  return (place == 'queued' or GO_ON[place]) and newest[1] or nil, ''
end
local found, spent, stale, short = {}, {}, {}, {}
for i = 9 + ARGV[8], #ARGV, 3 do
  local wanted, count = cjson.decode(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local wish, buckets = (i - 9 - ARGV[8]) / 3, {'queued'}
  for n = 1, wanted.n - 1 do buckets[#buckets + 1] = 'again' .. string.format('%.0f', n) end
  local vain, next_one = 0, oldest(wanted, buckets)
  while count > 0 and vain < tonumber(ARGV[6]) do
    local id, bucket, score = next_one()
    if not id then break end
    local record
    local key = not taken[id] and not without[id] and is_wanted(wanted, id, bucket)
      and redis.call('EXISTS', base .. 'r:' .. id) == 0
    if key then
      key, record = newest_of(id)
      if not key then stale[#stale + 1] = id end  -- An older version has changed it, or it has expired.
    end
    if key and looks then
      head, count = math.min(head or score, score), 0
    elseif key then
      redis.call('SET', base .. 'r:' .. id, process, 'PX', ARGV[3])
      taken[id] = true
      for _, each in ipairs({id, key, wish, record}) do found[#found + 1] = each end
      count = count - 1
    else
      vain = vain + 1
    end
  end
  if count > 0 then short[#short + 1] = {ARGV[i], ARGV[i + 1], wanted} end
  vain, next_one = 0, oldest(wanted, {'again' .. string.format('%.0f', wanted.n)})
  while vain < tonumber(ARGV[7]) do
    local id, bucket = next_one()
    if not id then break end
    vain = vain + 1
    if is_wanted(wanted, id, bucket) then
      spent[#spent + 1] = id
      spent[#spent + 1] = wanted.n
    end
  end
end
for id in pairs(taken) do settle(base, id, at) end
for _, id in ipairs(stale) do settle(base, id, at) end
if looks then
  for _, each in ipairs(later) do pcall(ring, base, unpack(each)) end
  return {'head', head and string.format('%.17g', head) or '', spent}
end
local heard = base .. 'n:' .. process
local waited = redis.call('GET', heard) or ''
if #short == 0 then
  redis.call('DEL', heard)
else
  local time, groups = redis.call('TIME'), {}
  local now = string.format('%.0f', time[1] * 1000000 + time[2])
  for i, each in ipairs(short) do
    local group = base .. 'q:' .. each[1]
    groups[i] = each[1]
    if string.find(waited, each[1], 1, true) then
      redis.call('ZADD', group, 'NX', now, process)  -- It keeps its place.
    else
      redis.call('ZADD', group, now, process)
    end
    redis.call('PEXPIRE', group, 2 * ARGV[4])
    redis.call('HSET', base .. 'q', each[1], each[2])
  end
  redis.call('PEXPIRE', base .. 'q', 2 * ARGV[4])
  redis.call('SET', heard, table.concat(groups, ' '), 'PX', ARGV[4])
end
local function is_short(begun, has)  -- Whether it has looked at such a one in vain.
  for _, each in ipairs(short) do
    if begun < each[3].n and fits(each[3], has) then return true end
  end
  return false
end
for _, each in ipairs(rung_for(base, process, at, taken)) do
  if not is_short(each[2], each[3]) then later[#later + 1] = each end
end
for _, each in ipairs(later) do
  if not taken[each[1]] then pcall(ring, base, unpack(each)) end
end
return {'taken', found, spent, redis.call('EXISTS', base .. 'z')}
"""
)

RELEASE: Final = (
    SETTLE
    + _RUNG
    + """
-- ARGV: base, process, '1': it waits no more, session...
local base, at = ARGV[1], clock()
if ARGV[3] == '1' then
  redis.call('DEL', base .. 'n:' .. ARGV[2])
  for _, each in ipairs(rung_for(base, ARGV[2], at, {})) do pcall(ring, base, unpack(each)) end
end
for i = 4, #ARGV do
  if redis.call('GET', base .. 'r:' .. ARGV[i]) == ARGV[2] then
    redis.call('DEL', base .. 'r:' .. ARGV[i])
    settle(base, ARGV[i], at, false, true)
  end
end
return {'done'}
"""
)
