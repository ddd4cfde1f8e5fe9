-- Put envelopes with a new signature in the place of those that they were made from; nothing else of them differs.
--
-- KEYS  the Redis key of each; the same key may come often
-- ARGV  for each of them: the field of the hash, "" for a string; the envelope as it was read; the new one
--
-- Answers how many still stood there. What was published since stays as it is.

local count = 0
for place = 1, #KEYS do
  local field, was, new = ARGV[3 * place - 2], ARGV[3 * place - 1], ARGV[3 * place]
  if field == "" then
    if redis.call("GET", KEYS[place]) == was then
      redis.call("SET", KEYS[place], new)
      count = count + 1
    end
  elseif redis.call("HGET", KEYS[place], field) == was then
    redis.call("HSET", KEYS[place], field, new)
    count = count + 1
  end
end
return count
