"""The Lua scripts: what has to be decided and written in one moment.

They compute the name of a lease from a session's epoch, which only they know in time; it has the hash tag of
the keys that they are given. What has no expiry is no lease: nobody could ever have the session again. Numbers
of epochs are below 2**53, so Lua's doubles hold them exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from . import index_lua, parts_lua, queue_lua

T = TypeVar("T")

Command: TypeAlias = Sequence[Any]
"""A command and its arguments (str, bytes, int or float), or a `Script`, how many keys it is given, and these."""

Steps: TypeAlias = Generator[Sequence[Command], Any, T]
"""Something that needs several round trips: yields commands, is sent a reply for each, returns what came of it."""


def once(command: Command) -> Steps[Any]:
    """The reply to one command."""
    (reply,) = yield [command]
    return reply


class Script(NamedTuple):
    """A script, and the digest by which a server that has seen it knows it."""

    text: str
    sha: str


def _script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# The events of one append are one entry (or few), under the number of the last: it is written whole or not at all,
# and one that is repeated with more events than the first time stands beside it, which readers see through.
_ADD_EVENTS: Final = """
local function add_events(key, epoch, first, top, limit)
  local entry = {}
  local last
  local function add()
    local least = string.format('%s-%.0f', epoch, math.max(last - limit, 0))
    redis.call('XADD', key, 'MINID', '~', least, string.format('%s-%.0f', epoch, last), unpack(entry))
    entry = {}
  end
  for i = first, #ARGV, 2 do
    local n = tonumber(ARGV[i])
    if n > top then
      entry[#entry + 1] = ARGV[i]
      entry[#entry + 1] = ARGV[i + 1]
      last = n
      -- Lua unpacks no more than some 8,000 values at once.
      if #entry == 2000 then add() end
    end
  end
  if #entry > 0 then add() end
end
"""

CLAIM: Final = _script(
    _ADD_EVENTS
    + parts_lua.IN_PARTS
    + index_lua.SETTLE
    + """
-- KEYS: stream meta events index usual ahead word history parts
-- ARGV: lease prefix, id, owner, proposal, seq, record, lease ms or '', ms to keep, expected key or '',
--       status, pipeline, labels, queued at, event limit, letters: 'p': a lease of the expected epoch refuses nothing,
--       'q', 'l': it is listed by when it was declared, and by those labels, a number: how often it was begun, or as
--       often as before; n, event, n, event...
local stream, meta, events, index, usual, ahead, word, history, parts = unpack(KEYS)
local known = redis.call('HMGET', meta, 'e', 'f', 'o', 'h', 's', 'q', 'l', 'n')
local epoch = known[1]
local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local top = 0
for _, number in ipairs({epoch or '', newest and string.match(newest[1], '^%d+') or ''}) do
  local value = tonumber(number)
  if value and value < 9007199254740992 and value > top then top = value end
end
-- Where only a part is left (evicted, or removed by hand), nothing is.
local whole = epoch and newest and string.match(newest[1], '^%d+') == epoch and complete(newest, parts)
local base = string.sub(index, 1, -2)
local took = redis.pcall('GET', history)
if type(took) ~= 'string' then took = redis.pcall('HGETALL', usual) end  -- What was kept before there were histories.
if type(took) == 'table' and took.err then took = {} end
-- An owner that the hash has lost is known by the stream and its lease; it comes back with its own epoch.
local held = newest and string.match(newest[1], '^%d+')
if held and held ~= epoch and held ~= ARGV[4] and redis.call('PTTL', ARGV[1] .. held) > 0 then return {'refused'} end
if epoch and known[2] == '0' then
  local lease = ARGV[1] .. epoch
  if known[3] ~= ARGV[3] then
    local passed = string.find(ARGV[15], 'p', 1, true) and string.match(ARGV[9], '^%d+') == epoch
    if not passed and redis.call('PTTL', lease) > 0 then return {'refused'} end
  elseif whole then
    if ARGV[7] ~= '' and redis.call('PEXPIRE', lease, ARGV[7]) == 0 then
      redis.call('SET', lease, '', 'PX', ARGV[7])
      settle(base, ARGV[2], clock())
    end
    local below = string.format('%.0f', tonumber(epoch) - 1)
    local declared = redis.call('XREVRANGE', stream, below, '-', 'COUNT', 1)[1] or {false, false}
    return {'again', epoch, took, declared[1], declared[2], {}, false}
  end
end
if not whole then newest = false end
if ARGV[9] ~= '' and not (newest and newest[1] == ARGV[9]) then return {'moved'} end
local now = clock()
local before = tonumber(redis.call('GET', ahead) or '') or 0
-- Above all that the session ever had, also where that is no longer known: the server's clock has passed it,
-- or `ahead` still holds it.
local new = math.max(tonumber(ARGV[4]), top + 1, before + 1, now)
if new >= 9007199254740992 then return redis.error_reply('ERR no epoch is left') end
local number = string.format('%.0f', new)
if new >= now then redis.call('SET', ahead, number, 'PX', string.format('%.0f', new - now + 1000)) end
local before, texts = false, false
if newest then before, texts = state_of(newest, parts) end
-- What was declared stays below the claim, until appends push it out: should the answer be lost, it is told again.
if not (newest and known[5] == 'queued' and ARGV[7] ~= '') then redis.call('DEL', stream) end
redis.call('DEL', events, meta, word, parts, base .. 'r:' .. ARGV[2])
redis.call('XADD', stream, number .. '-' .. ARGV[5], 'd', ARGV[6])
-- From here on what the epochs before have left to say comes too late.
redis.call('XADD', events, number .. '-0', '0', '')
add_events(events, number, 16, 0, tonumber(ARGV[14]))
local queued_at, labels = ARGV[13], ARGV[12]
if newest and known[5] == 'queued' then
  if string.find(ARGV[15], 'q', 1, true) and tonumber(known[6] or '') then queued_at = known[6] end
  if string.find(ARGV[15], 'l', 1, true) and known[7] then labels = known[7] end
end
redis.call('HSET', meta, 'e', number, 'o', ARGV[3], 'f', ARGV[7] == '' and '1' or '0', 's', ARGV[10],
  'p', ARGV[11], 'l', labels, 'q', queued_at, 'v', '1', 'n', string.match(ARGV[15], '%d+') or known[8] or '0')
redis.call('ZADD', index, queued_at, ARGV[2])
if ARGV[7] ~= '' then redis.call('SET', ARGV[1] .. number, '', 'PX', ARGV[7]) end
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ARGV[8]) end
settle(base, ARGV[2], now)
return {'claimed', number, took, newest and newest[1], before, texts, known[4]}
"""
)

APPEND: Final = _script(
    _ADD_EVENTS
    + index_lua.SETTLE
    + """
-- KEYS: stream meta events index lease parts
-- ARGV: id, epoch, seq, record, heartbeat, lease ms or '', ms to keep, status, pipeline, labels, queued at,
--       states kept, event limit, n, event, n, event...
local stream, meta, events, index, lease, parts = unpack(KEYS)
local epoch = redis.call('HGET', meta, 'e')
local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if not epoch or not newest then return {'gone'} end
local held, at = string.match(newest[1], '^(%d+)%-(%d+)$')
if epoch ~= ARGV[2] or held ~= ARGV[2] then return {'fenced', epoch ~= ARGV[2] and epoch or held} end
local seq, at = tonumber(ARGV[3]), tonumber(at)
if seq > at then
  redis.call('XADD', stream, 'MAXLEN', '~', ARGV[12], epoch .. '-' .. ARGV[3], 'd', ARGV[4], 'h', ARGV[5])
  redis.call('DEL', parts)
  redis.call('HSET', meta, 's', ARGV[8], 'p', ARGV[9], 'l', ARGV[10], 'q', ARGV[11])
  redis.call('ZADD', index, ARGV[11], ARGV[1])
end
if seq >= at then
  redis.call('HSET', meta, 'f', ARGV[6] == '' and '1' or '0', 'h', ARGV[5])
  if ARGV[6] == '' then redis.call('DEL', lease) else redis.call('SET', lease, ARGV[5], 'PX', ARGV[6]) end
end
local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
local of, n = string.match(last and last[1] or '0-0', '^(%d+)%-(%d+)$')
if of ~= epoch then
  n = 0
  redis.call('DEL', events)
end
add_events(events, epoch, 14, tonumber(n), tonumber(ARGV[13]))
if seq >= at then
  for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ARGV[7]) end
  settle(string.sub(index, 1, -2), ARGV[1], clock())
end
return {'done', seq > at and 1 or 0}
"""
)

APPEND_PARTS: Final = _script(parts_lua.APPEND)

LEARN: Final = _script(
    """
-- KEYS: history histories; ARGV: the history that was read or '', new, ms to keep, pipeline, at, oldest, kept
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return {'moved'} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[4])
local recent = redis.call('ZCOUNT', KEYS[2], ARGV[6], '+inf')
local gone = redis.call('ZREVRANGE', KEYS[2], math.min(recent, tonumber(ARGV[7])), -1)
for _, name in ipairs(gone) do redis.call('ZREM', KEYS[2], name) end
return {'done', gone}
"""
)

RENEW: Final = _script(
    index_lua.SETTLE
    + parts_lua.IN_PARTS
    + """
-- KEYS: stream meta events lease index parts; ARGV: epoch, lease ms, heartbeat, id
local known = redis.call('HMGET', KEYS[2], 'e', 'f', 'q')
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not known[1] or not newest or not complete(newest, KEYS[6]) then return {'gone'} end
if known[1] ~= ARGV[1] then return {'fenced', known[1]} end
if known[2] == '0' then
  local lapsed = redis.call('PTTL', KEYS[4]) <= 0
  redis.call('SET', KEYS[4], ARGV[3], 'PX', ARGV[2])
  redis.call('HSET', KEYS[2], 'h', ARGV[3])
  local listed = tonumber(known[3] or '') and redis.call('ZADD', KEYS[5], 'NX', known[3], ARGV[4])
  for _, each in ipairs({KEYS[1], KEYS[2], KEYS[3], KEYS[6]}) do
    if redis.call('PTTL', each) < tonumber(ARGV[2]) then redis.call('PEXPIRE', each, ARGV[2]) end
  end
  if lapsed or listed == 1 then settle(string.sub(KEYS[5], 1, -2), ARGV[4], clock(), listed == 1) end
end
return {'done'}
"""
)

DELETE: Final = _script(
    index_lua.SETTLE
    + """
-- KEYS: stream meta events index word parts; ARGV: lease prefix, id
local known = redis.pcall('HMGET', KEYS[2], 'e', 'f')
if not known.err and known[1] and known[2] == '0' and redis.call('PTTL', ARGV[1] .. known[1]) > 0 then
  return {'refused'}
end
local there = redis.call('DEL', KEYS[1], KEYS[2])
redis.call('DEL', KEYS[3], KEYS[5], KEYS[6])
settle(string.sub(KEYS[4], 1, -2), ARGV[2], clock())
return {'done', there}
"""
)

READ: Final = _script(
    parts_lua.IN_PARTS
    + """
-- KEYS: stream meta events parts
-- ARGV: lease prefix, number of entries of events, the last event that is known, the id of the state that is, or ''
local known = redis.call('HMGET', KEYS[2], 'e', 'f', 'h')
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not known[1] or not newest or not complete(newest, KEYS[4]) then return false end
local held = ARGV[1] .. known[1]
local lease = known[2] == '0' and redis.call('PTTL', held) > 0 and redis.call('GET', held)
local events = {}
if ARGV[2] ~= '0' then
  local after = known[1] .. '-' .. string.format('%.0f', tonumber(ARGV[3]) + 1)
  events = redis.call('XREVRANGE', KEYS[3], '+', after, 'COUNT', ARGV[2])
end
local state, texts = false, false
if newest[1] ~= ARGV[4] then state, texts = state_of(newest, KEYS[4]) end
return {known[1], newest[1], state, texts, lease, known[3], events}
"""
)

LIST: Final = _script(
    index_lua.BEHIND
    + """
-- KEYS: index; ARGV: base of all keys, score and id to go on after ('' and '' for the start), entries to look at,
--       sessions to find, whether only those without an owner, pipeline or '', number of places (-1: any), place...,
--       label...
local index, base = KEYS[1], ARGV[1]
local score, id = ARGV[2], ARGV[3]
local start = behind(index, score, id)
local pipeline, places = ARGV[7], tonumber(ARGV[8])
local wanted = {}
for i = 9, 8 + math.max(places, 0) do wanted[ARGV[i]] = true end
local found, stale, number = {}, {}, 0
local function add(score, id)
  number = number + 1
  found[2 * number - 1], found[2 * number] = score, id
end
local looked = redis.call('ZREVRANGE', index, start, start + tonumber(ARGV[4]) - 1, 'WITHSCORES')
local last_id, last_score = id, score
local ended = #looked < 2 * tonumber(ARGV[4])
for i = 1, #looked, 2 do
  local each, at = looked[i], looked[i + 1]
  local known = redis.pcall('HMGET', base .. 'm:' .. each, 'e', 'f', 's', 'l', 'p')
  if known.err then
    add(at, each)
  elseif not known[1] then
    stale[#stale + 1] = each
  else
    local fits = pipeline == '' or known[5] == pipeline
    if fits and (places >= 0 or ARGV[6] == '1') then
      local owned = known[2] == '0' and redis.call('PTTL', base .. 'l:' .. each .. ':' .. known[1]) > 0
      local place = known[3] == 'running' and not owned and 'lapsed' or known[3] or ''
      fits = (places < 0 or wanted[place]) and not (owned and ARGV[6] == '1')
    end
    for j = 9 + math.max(places, 0), #ARGV do
      fits = fits and string.find(known[4] or '', ARGV[j], 1, true)
    end
    if fits then add(at, each) end
  end
  last_id, last_score = each, at
  if number == tonumber(ARGV[5]) then
    ended = ended and i + 1 == #looked
    break
  end
end
-- What has expired; on a replica that cannot be written it stays.
if #stale > 0 then redis.pcall('ZREM', index, unpack(stale)) end
return {ended and 1 or 0, last_score, last_id, found}
"""
)

PAGE: Final = _script(index_lua.PAGE)
TAKE_IN: Final = _script(index_lua.TAKE_IN)
SETTLE: Final = _script(index_lua.SETTLE_ONE)
TAKE: Final = _script(queue_lua.TAKE)
RELEASE: Final = _script(queue_lua.RELEASE)

WATCHED: Final = _script(
    """
-- KEYS: word words; ARGV: id, ms that one word lasts, words kept, ms to keep them
if redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[2]) then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'i', ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return {'done'}
"""
)

PROBE: Final = _script(
    """
-- KEYS: a key that nobody uses. What every other script and command needs, tried once; why, where only writes fail.
local set = redis.pcall('SET', KEYS[1], '1', 'PX', 1000)
if set.err then return string.match(set.err, 'OOM') or string.match(set.err, 'MISCONF') or set end
redis.call('HDEL', KEYS[1] .. ':x', '1')
redis.call('ZRANGEBYSCORE', KEYS[1] .. ':x', 0, 1)
return redis.call('TIME')
"""
)

AGREE: Final = _script(
    """
-- KEYS: partitions, index of the partition of before there were several; ARGV: number asked for or '', number otherwise
local agreed = redis.call('GET', KEYS[1])
if agreed then return agreed end
agreed = ARGV[1] == '' and ARGV[2] or ARGV[1]
if redis.call('EXISTS', KEYS[2]) == 1 then agreed = '1' end
redis.call('SET', KEYS[1], agreed)
return agreed
"""
)
