-- Take a worker's totals of several counts, and give it a ceiling for each (gateway_core.limits.counting).
--
-- KEYS  1 limits, 2 limits:wanted, 3… the counts
-- ARGV  1 the name of the epoch, of the same hash tag. It is not among the keys, because Redis lets nobody call a script
--         with a key that it may only read
--       then for each count:
--       + 0 the worker, under the name that it has in this count
--       + 1 its kind: "c" a count, "r" a rate, "s" requests at one time
--       + 2 its name
--       + 3 since when nothing of it may be missing for it to begin at zero, in microseconds; "" for never
--       + 4 for how many seconds it is kept
--       + 5 which life of the count the worker knows; "" for none
--       + 6 number, 7 used, 8 reserved, 9 keep, 10 need, 11 ahead, 12 amount
--
-- Answers {} where Redis holds no epoch. Else {now, answer of each count…}: {verdict, ceiling, life, is_recalled, what
-- is neither used nor reserved}, of a rate {verdict, count, life, wait, how many it would let through}.

local REFUSED, GRANTED, WAIT, STALE, BEGUN_AGAIN, UNKNOWN = 0, 1, 2, 3, 4, 5
local LIFE, FORGOTTEN, RECALL, SHARE = 5000000, 600000000, 1000000, 8
-- Where no worker has called for so long, Redis itself stood still, or has lost something.
local SILENT = 2000000
local MINUTE = 60000000
local WIDTH = 13

local function text(number)
  return string.format("%.0f", number)
end

local epoch = redis.call("HGET", ARGV[1], "id")
if not epoch then
  return {}
end
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local marker = redis.call("HMGET", KEYS[1], "epoch", "since", "seen", "spared")
local since, seen, spared = tonumber(marker[2]), tonumber(marker[3]), tonumber(marker[4] or 0)
if marker[1] ~= epoch or not since or not seen then
  since, seen = now, 0
  redis.call("HSET", KEYS[1], "epoch", epoch, "since", text(since))
end
if now - seen > SILENT then
  spared = now + LIFE
  redis.call("HSET", KEYS[1], "spared", text(spared))
end
redis.call("HSET", KEYS[1], "seen", text(now))

local function fields_of(key)
  local flat, fields = redis.call("HGETALL", key), {}
  for place = 1, #flat, 2 do
    fields[flat[place]] = flat[place + 1]
  end
  return fields
end

local function take_rate(key, fields, ask)
  local each = math.floor(MINUTE / ask.amount)
  local start = math.max(tonumber(fields.empty_at or 0) - ask.keep * each, now)
  local room = math.floor((now + ask.amount * each - start) / each)
  if ask.need > room then
    redis.call("HSET", key, "empty_at", text(start))
    return {REFUSED, 0, fields.opened, start + ask.need * each - now - ask.amount * each, room}
  end
  local count = ask.need + math.min(ask.ahead, math.floor(math.max(room - ask.need, 0) / SHARE))
  redis.call("HSET", key, "empty_at", text(start + count * each))
  return {GRANTED, count, fields.opened, 0, room - count}
end

local function take_share(key, fields, worker, ask, is_settling)
  local own = fields["w:" .. worker]
  if own then
    local number, ceiling = string.match(own, "^(%d+) (%d+)")
    if number and ask.number <= tonumber(number) then
      return {STALE, tonumber(ceiling), fields.opened, 0, 0}
    end
  end
  local function open(name, total)
    return math.max(total - tonumber(fields["k:" .. name] or 0), 0)
  end
  local taken, spare = tonumber(fields.base or 0), 0
  for field, value in pairs(fields) do
    local name = string.match(field, "^w:(.*)$")
    if name and name ~= worker then
      local number, ceiling, used, reserved, until_ = string.match(value, "^(%d+) (%d+) (%d+) (%d+) (%d+)$")
      ceiling, used, reserved, until_ = tonumber(ceiling), tonumber(used), tonumber(reserved), tonumber(until_)
      if not until_ then
        -- No worker writes such a row. It is dropped, so that it stops nobody.
        redis.call("HDEL", key, field)
        ceiling, used, reserved, until_ = 0, 0, 0, now + LIFE
      end
      if until_ <= now and now >= spared then
        if now >= until_ + FORGOTTEN and open(name, used) == 0 then
          redis.call("HDEL", key, field, "k:" .. name)
        elseif ceiling ~= used then
          redis.call("HSET", key, field, table.concat({number, text(used), text(used), "0", text(until_)}, " "))
        end
        ceiling, reserved = used, 0
      end
      taken = taken + open(name, ceiling)
      spare = spare + ceiling - used - reserved
    end
  end
  local recalled_until = tonumber(fields.recall or 0)
  local ceiling = ask.used + ask.reserved + ask.keep
  local room = ask.amount - taken - open(worker, ceiling)
  local verdict = GRANTED
  if ask.need > 0 and (ask.need > room or is_settling) then
    verdict = REFUSED
    if is_settling or ask.need <= room + spare then
      verdict = WAIT
      recalled_until = now + RECALL
      redis.call("HSET", key, "recall", text(recalled_until))
    end
  else
    ceiling = ceiling + ask.need
    if now >= recalled_until and not is_settling then
      ceiling = ceiling + math.min(ask.ahead, math.floor(math.max(room - ask.need, 0) / SHARE))
    end
  end
  redis.call("HSET", key, "w:" .. worker, table.concat(
    {text(ask.number), text(ceiling), text(ask.used), text(ask.reserved), text(now + LIFE)}, " "))
  local is_recalled = (now < recalled_until or room < 0) and 1 or 0
  local left = room + ask.keep + spare - (verdict == GRANTED and ask.need or 0)
  return {verdict, ceiling, fields.opened, is_recalled, math.max(left, 0)}
end

local answers = {now}
for place = 3, #KEYS do
  local key, at = KEYS[place], 2 + (place - 3) * WIDTH
  local worker, kind, name, begin, kept, life = unpack(ARGV, at, at + 5)
  local ask = {
    number = tonumber(ARGV[at + 6]), used = tonumber(ARGV[at + 7]), reserved = tonumber(ARGV[at + 8]),
    keep = tonumber(ARGV[at + 9]), need = tonumber(ARGV[at + 10]), ahead = tonumber(ARGV[at + 11]),
    amount = tonumber(ARGV[at + 12])}
  local fields = fields_of(key)
  local answer
  if fields.epoch ~= epoch then
    for field in pairs(fields) do
      redis.call("HDEL", key, field)
    end
    fields = nil
    if kind == "s" or (begin ~= "" and since <= tonumber(begin)) then
      fields = {epoch = epoch, opened = text(now)}
      redis.call("HSET", key, "epoch", epoch, "opened", fields.opened)
    end
  end
  if not fields then
    redis.call("SADD", KEYS[2], name)
    answer = {UNKNOWN, 0, "", 0, 0}
  elseif life ~= "" and life ~= fields.opened then
    answer = {BEGUN_AGAIN, 0, fields.opened, 0, 0}
  elseif kind == "r" then
    answer = take_rate(key, fields, ask)
  else
    answer = take_share(key, fields, worker, ask, kind == "s" and now - since < SILENT)
  end
  if fields then
    redis.call("EXPIRE", key, kept)
  end
  answers[#answers + 1] = answer
end
return answers
