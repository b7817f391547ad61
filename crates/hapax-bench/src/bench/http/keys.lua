-- Requests for wrk: arguments are the mode (plain, first, replay), the prefix of all keys, the number of keys that are
-- replayed. A request is put together anew in each mode, so that wrk's own work is about the same.

local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

function init(arguments)
    mode = arguments[1]
    prefix = "Idempotency-Key: " .. arguments[2] .. "-" .. number .. "-"
    keys = tonumber(arguments[3])
    sent = 0
    local body = '{"item":"tea","note":"' .. string.rep("x", 500 - 24) .. '"}'
    head = "POST /orders HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: " .. #body .. "\r\n"
    tail = "\r\n\r\n" .. body
end

function request()
    sent = sent + 1
    if mode == "first" then
        return head .. prefix .. sent .. tail
    elseif mode == "replay" then
        return head .. prefix .. sent % keys .. tail
    end
    return head .. "X-Request: " .. prefix .. sent .. tail
end

function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format("RESULT %d %f %d %d %d %d %d\n", summary.requests, summary.duration / 1e6, failed,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))
end
