"""The index of lists in Redis, as Lua: the one function that keeps it, and the scripts that read and complete it.

`settle()` makes the entries of a session equal to what its hash and its lease say; see `stores.places`. Each script
that claims, declares, ends, deletes or takes up a lapsed lease calls it last; plain appends do not. `t` says when time
alone may have changed something: never later than a lease or a session ends, so that what renews one need not touch
it. What is due is settled by whoever lists next.

Processes of an older version keep none of this. Their sessions lack the mark `v` in their hash; as long as there may be
such processes (`o`), whoever lists goes through all sessions now and then and settles those. Until then they are in the
lists of no filter, or stand where they are no longer: whoever reads a page looks at the hash and settles what differs.
"""

from __future__ import annotations

from typing import Final

SETTLE: Final = """
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function escaped(text)  -- Rows are separated by NUL.
  if not string.find(text, '[%z\\1]') then return text end
  return (string.gsub(string.gsub(text, '\\1', '\\1\\2'), '%z', '\\1\\1'))
end
local function place_of(base, id, known)  -- By epoch, whether it has no owner, and status; and how long a lease stands.
  local left = known[2] == '0' and redis.call('PTTL', base .. 'l:' .. id .. ':' .. known[1]) or 0
  return left <= 0 and known[3] == 'running' and 'lapsed' or known[3], left
end
local GO_ON = {interrupted = true, lost = true, lapsed = true}
local function fits(wanted, has)  -- By dimensions: one of the pipelines, if any are named, and all labels.
  for _, label in ipairs(wanted.l) do
    if not has[label] then return false end
  end
  for _, pipeline in ipairs(wanted.p) do
    if has[pipeline] then return true end
  end
  return #wanted.p == 0
end
local function ring(base, id, begun, has)  -- Who has waited longest of those that can use what was begun so often.
  local best, since, from
  local groups = redis.call('HGETALL', base .. 'q')
  for i = 1, #groups, 2 do
    local fine, wanted = pcall(cjson.decode, groups[i + 1])
    local group = base .. 'q:' .. groups[i]
    while fine and begun < wanted.n and fits(wanted, has) do
      local first = redis.call('ZRANGEBYSCORE', group, '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
      if not first[1] then
        redis.call('HDEL', base .. 'q', groups[i])
        break
      end
      local waits = redis.call('GET', base .. 'n:' .. first[1])
      if waits and string.find(waits, groups[i], 1, true) then
        if not since or tonumber(first[2]) < since then best, since, from = first[1], tonumber(first[2]), group end
        break
      end
      redis.call('ZREM', group, first[1])  -- It has left, or was not heard of.
    end
  end
  if best then
    redis.call('ZREM', from, best)
    local bell, time = base .. 'g:' .. best, redis.call('TIME')
    -- By microseconds: it is behind what was read there in the same millisecond, before the stream was removed.
    local at = string.format('%.0f-%d', time[1] * 1000 + math.floor(time[2] / 1000), time[2] % 1000)
    local added = redis.pcall('XADD', bell, 'MAXLEN', 16, at, 'n', best, 's', id)
    if added.err then redis.call('XADD', bell, 'MAXLEN', 16, '*', 'n', best, 's', id) end
    redis.call('PEXPIRE', bell, 60000)
  end
end
-- `bell`: that it is rung also where nothing has changed but time; or a table that is told what is to be rung.
local function settle(base, id, at, again, bell)
  local name, index = base .. 'm:' .. id, base .. 'x'
  local known = redis.pcall('HMGET', name, 'e', 'f', 's', 'p', 'l', 'q', 'n')
  local old = not again and redis.call('HGET', index, id)
  local row, sets, has, place, due, begun = false, {}, {}, nil, nil, nil
  if known[1] and known[3] and tonumber(known[6] or '') then
    local left
    place, left = place_of(base, id, known)
    if left <= 0 then left = redis.call('PTTL', name) end
    if left > 0 then due = at + left end
    if known[4] and known[4] ~= '' then has['p' .. escaped(known[4])] = true end
    local fine, labels = pcall(cjson.decode, known[5] or '')
    for label, value in pairs(fine and type(labels) == 'table' and labels or {}) do
      label, value = tostring(label), tostring(value)
      has['l' .. #label .. '=' .. escaped(label .. value)] = true
    end
    sets[1] = place
    for each in pairs(has) do sets[#sets + 1] = place .. ':' .. each end
    if place == 'queued' then begun = 0 end
    if GO_ON[place] then  -- It stands a second time, by how often it was begun.
      begun = math.max(tonumber(known[7] or '') or 1, 1)
      local bucket = 'again' .. string.format('%.0f', begun)
      sets[#sets + 1] = bucket
      for each in pairs(has) do sets[#sets + 1] = bucket .. ':' .. each end
    end
    table.sort(sets)
    row = known[6] .. '\\0' .. table.concat(sets, '\\0')
  end
  if row ~= old then
    local had = {}
    local stays = old and string.match(old, '^[^%z]*') == known[6]
    if old then for each in string.gmatch(old, '%z([^%z]+)') do had[each] = true end end
    -- What Redis refuses when it is full comes first: either all of this is done or nothing.
    for _, each in ipairs(sets) do
      if not (stays and had[each]) then redis.call('ZADD', index .. ':' .. each, known[6], id) end
      had[each] = nil
    end
    if row then redis.call('HSET', index, id, row) else redis.call('HDEL', index, id) end
    for each in pairs(had) do redis.call('ZREM', index .. ':' .. each, id) end
  end
  local reserved = begun and redis.call('PTTL', base .. 'r:' .. id) or 0
  if reserved > 0 then due = math.min(due or math.huge, at + reserved) end
  if due then redis.call('ZADD', base .. 't', due, id) else redis.call('ZREM', base .. 't', id) end
  if not known[1] and not known.err then redis.call('ZREM', base .. 'i', id) end
  if begun and reserved <= 0 and (bell or row ~= old) then
    if type(bell) == 'table' then bell[#bell + 1] = {id, begun, has} else pcall(ring, base, id, begun, has) end
  end
  return place
end
"""

BEHIND: Final = """
local function below(one, other)  -- By bytes, as sorted sets do; Lua goes by the locale of the server.
  for i = 1, math.min(#one, #other) do
    local a, b = string.byte(one, i), string.byte(other, i)
    if a ~= b then return a < b end
  end
  return #one < #other
end
local function behind(set, score, id)  -- The rank behind an entry, from the top.
  if score == '' then return 0 end
  local rank = redis.call('ZREVRANK', set, id)
  local stands = rank and tonumber(redis.call('ZSCORE', set, id))
  if rank and stands == tonumber(score) then return rank + 1 end
  -- It is gone, or stands elsewhere: its place is sought among those with the same score.
  local start = redis.call('ZCOUNT', set, '(' .. score, '+inf')
  local to = start + redis.call('ZCOUNT', set, score, score)
  while start < to do
    local middle = math.floor((start + to) / 2)
    if below(redis.call('ZREVRANGE', set, middle, middle)[1], id) then to = middle else start = middle + 1 end
  end
  return start
end
"""

PAGE: Final = (
    SETTLE
    + BEHIND
    + """
-- ARGV: base, sessions to find, entries to look at, due ones to settle, ms that older versions are reckoned with,
--       score and id to go on after ('' and '' for the start), whether only those without an owner,
--       number of places, place..., dimension...
local base, most, looked, settled = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local score, id, lapsed = ARGV[6], ARGV[7], ARGV[8] == '1'
local index, at = base .. 'x', clock()
if redis.call('EXISTS', base .. 'z') == 0 then return {'incomplete'} end
local due = redis.call('ZRANGEBYSCORE', base .. 't', '-inf', at, 'LIMIT', 0, settled)
-- Where Redis is full nothing can be settled: then lists show less, until it is not.
local writes = true
for _, each in ipairs(due) do writes = writes and pcall(settle, base, each, at, false, true) end
if writes and #due == settled then return {'more'} end
local older = redis.call('EXISTS', base .. 'o')
if older == 0 and redis.call('ZCOUNT', base .. 'i', '-inf', '+inf') > redis.call('HLEN', index) then
  older = 1
  redis.pcall('SET', base .. 'o', '1', 'PX', ARGV[5])
end
local places, dimensions, asked = {}, {}, {}
local last_place = 9 + tonumber(ARGV[9])
for i = 10, last_place do
  places[#places + 1] = ARGV[i]
  asked[ARGV[i]] = true
end
for i = last_place + 1, #ARGV do dimensions[#dimensions + 1] = ':' .. ARGV[i] end
local driver, fewest = dimensions[1] or '', nil
if #dimensions > 1 then
  for _, dimension in ipairs(dimensions) do
    local size = 0
    for _, place in ipairs(places) do
      size = size + redis.call('ZCOUNT', index .. ':' .. place .. dimension, '-inf', '+inf')
    end
    if not fewest or size < fewest then driver, fewest = dimension, size end
  end
end
local reach = (#dimensions > 1 or lapsed) and looked or most
local all = {}
for _, place in ipairs(places) do
  local set = index .. ':' .. place .. driver
  if redis.call('EXISTS', set) == 1 then
    local start = behind(set, score, id)
    local got = redis.call('ZREVRANGE', set, start, start + reach, 'WITHSCORES')  -- One more, to see whether there is.
    for i = 1, #got, 2 do all[#all + 1] = {got[i], tonumber(got[i + 1]), place, got[i + 1]} end
  end
end
table.sort(all, function(a, b)
  if a[2] ~= b[2] then return a[2] > b[2] end
  return below(b[1], a[1])
end)
local function listed(each, place)
  if #dimensions < 2 and place == each[3] then return true end
  local row = (redis.call('HGET', index, each[1]) or '') .. '\\0'
  for _, dimension in ipairs(dimensions) do
    if not string.find(row, '\\0' .. place .. dimension .. '\\0', 1, true) then return false end
  end
  return tonumber(string.match(row, '^[^%z]*') or '') == each[2]
end
local found, next_score, next_id, number = {}, '', '', 0
for i = 1, math.min(#all, reach) do
  local each = all[i]
  local known = redis.pcall('HMGET', base .. 'm:' .. each[1], 'e', 'f', 's')
  local place, left = false, 0
  if known[1] and known[3] then place, left = place_of(base, each[1], known) end
  if place ~= each[3] then  -- An older version has changed it, or removed it, or there was no room to settle it.
    local done, now = pcall(settle, base, each[1], at)
    place = done and now or place
  end
  if place and asked[place] and not (lapsed and left > 0) and listed(each, place) then
    number = number + 1
    for _, value in ipairs({each[4], each[1], known[1]}) do found[#found + 1] = value end
  end
  if i < #all then next_score, next_id = each[4], each[1] else next_score, next_id = '', '' end
  if number == most then break end
end
return {'page', older, next_score, next_id, found}
"""
)

TAKE_IN: Final = (
    SETTLE
    + BEHIND
    + """
-- Goes through some more of all sessions, and settles those that no index is kept of.
-- ARGV: base, entries to look at, ms that older versions are reckoned with, ms until all are gone through again
local base, at, index = ARGV[1], clock(), ARGV[1] .. 'i'
local stood = redis.call('GET', base .. 'y') or ''
if stood == 'done' and redis.call('EXISTS', base .. 'z') == 1 then return {'done'} end
local score, id = string.match(stood, '^(%S+) (.*)$')
local start = behind(index, score or '', id or '')
local looked = redis.call('ZREVRANGE', index, start, start + ARGV[2] - 1, 'WITHSCORES')
local complete = #looked < 2 * tonumber(ARGV[2])
local fine = pcall(function()
  local unknown = false
  for i = 1, #looked, 2 do
    local name = base .. 'm:' .. looked[i]
    local marked = redis.pcall('HMGET', name, 'v', 'e')
    if not marked[1] then
      settle(base, looked[i], at)
      if marked[2] then
        redis.call('HSET', name, 'v', '1')
        unknown = true
      end
    end
  end
  if unknown then redis.call('SET', base .. 'o', '1', 'PX', ARGV[3]) end
  if complete then
    redis.call('SET', base .. 'y', 'done', 'PX', ARGV[4])
    redis.call('SET', base .. 'z', '1')
  else
    redis.call('SET', base .. 'y', looked[#looked] .. ' ' .. looked[#looked - 1], 'PX', ARGV[3])
  end
end)
if not fine then return {'full'} end  -- Redis takes no more now.
return {complete and 'done' or 'more'}
"""
)

SETTLE_ONE: Final = (
    SETTLE
    + """
-- ARGV: base, id, '1': as if there were no entries of it
settle(ARGV[1], ARGV[2], clock(), ARGV[3] == '1')
return {'done'}
"""
)
