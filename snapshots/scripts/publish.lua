-- One publication of one account (or of the catalog), whole or not at all.
--
-- KEYS  1 epoch, 2 changes, 3 the hash of the account, 4… the tokens: first those to write, then those to delete
-- ARGV  1 the caller's epoch
--       2 the version that the caller holds for the stored one, 16 digits, or "" for none
--       3 the new version envelope
--       4 the account, as the change names it
--       5 the change envelope
--       6 about how many changes are kept
--       7 how many fields to write, then each with its value
--       . how many fields to delete, then each
--       . how many tokens to write, then the value of each, in the order of KEYS
--
-- Answers {"published", number}; {"epoch"} when this is another life of Redis or an unfinished one; {"version",
-- envelope} when the stored version is not the one that the caller knows of, or not lower than the new one; {"type"}
-- when the account's key is no hash and the caller knows of a version (a caller that holds "" writes the whole account,
-- and the key is replaced); {"stream"} when the stream is ahead of the epoch's number. Any other error of the stream (no
-- memory, a replica, a disk that is full, no right) is raised as it is: nothing was written, and nothing is lost.
--
-- Versions are compared as 16 digits of text: Lua's numbers misorder those above 2^53.

local function is_of_another_type(answer)
  return type(answer) == "table" and answer.err and string.find(answer.err, "WRONGTYPE", 1, true)
end

local epoch = redis.pcall("HMGET", KEYS[1], "id", "complete", "number")
if is_of_another_type(epoch) then
  return {"epoch"}
elseif epoch.err then
  return epoch
end
if epoch[1] ~= ARGV[1] or epoch[2] ~= "1" or not epoch[3] then
  return {"epoch"}
end

local stored = redis.pcall("HGET", KEYS[3], "version") or ""
local is_replaced = is_of_another_type(stored)
if is_replaced then
  if ARGV[2] ~= "" then
    return {"type"}
  end
  stored = ""
elseif type(stored) == "table" then
  return stored
end
local stored_version = string.sub(stored, 12, 27)
if stored_version ~= ARGV[2] or stored_version >= string.sub(ARGV[3], 12, 27) then
  return {"version", stored}
end

-- The stream first: should it refuse, nothing has been written.
local number = string.format("%.0f", (tonumber(epoch[3]) or -1) + 1)
local function add()
  return redis.pcall(
    "XADD", KEYS[2], "MAXLEN", "~", ARGV[6], number .. "-0", "account", ARGV[4], "change", ARGV[5])
end
local added = add()
if is_of_another_type(added) then
  -- Workers that have not read what was lost with it notice the gap.
  redis.call("UNLINK", KEYS[2])
  added = add()
end
if type(added) == "table" and added.err then
  for _, words in ipairs({"equal or smaller", "must be greater", "Invalid stream ID"}) do
    if string.find(added.err, words, 1, true) then
      return {"stream"}
    end
  end
  return added
end
if is_replaced then
  redis.call("UNLINK", KEYS[3])
end
redis.call("HSET", KEYS[1], "number", number)

local at = 7
local count = tonumber(ARGV[at])
for field = 1, count do
  redis.call("HSET", KEYS[3], ARGV[at + 2 * field - 1], ARGV[at + 2 * field])
end
at = at + 2 * count + 1
count = tonumber(ARGV[at])
for field = 1, count do
  redis.call("HDEL", KEYS[3], ARGV[at + field])
end
at = at + count + 1
count = tonumber(ARGV[at])
for token = 1, count do
  redis.call("SET", KEYS[3 + token], ARGV[at + token])
end
for token = 4 + count, #KEYS do
  redis.call("DEL", KEYS[token])
end
redis.call("HSET", KEYS[3], "version", ARGV[3])
return {"published", number}
