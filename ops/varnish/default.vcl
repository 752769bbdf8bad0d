# A Varnish (7.x, with the xkey module of varnish-modules) in front of the service. docs/l3.md explains it; `make varnish` runs it.
#
# The service says in each catalogue answer how long a cache that it purges may keep it (CDN-Cache-Control), and under which tags it purges it
# (xkey). Start the service with CDN_TAGS=xkey and CDN_PURGE_URL=http://<this Varnish>/.
vcl 4.1;

import std;
import xkey;

backend default {
    .host = "127.0.0.1";
    .port = "3000";
    .connect_timeout = 1s;
    # A little more than REQUEST_TIMEOUT_MS: the service ends what takes longer.
    .first_byte_timeout = 11s;
    .between_bytes_timeout = 2s;
    .probe = {
        # That the process is alive: while Postgres is away it still answers the catalogue, and says how.
        .url = "/livez";
        .interval = 1s;
        .timeout = 1s;
        .window = 3;
        .threshold = 2;
        .initial = 2;
    }
}

# Who may purge: where the service runs.
acl purgers {
    "127.0.0.1";
    "::1";
}

sub vcl_recv {
    if (req.method == "PURGE") {
        if (client.ip !~ purgers) {
            return (synth(405, "Not allowed"));
        }
        # Soft: stale from now on, but still there while it is fetched again. The other one takes it out at once.
        if (req.http.xkey-softpurge) {
            set req.http.x-purged = xkey.softpurge(req.http.xkey-softpurge);
            return (synth(200, "Purged"));
        }
        if (req.http.xkey-purge) {
            set req.http.x-purged = xkey.purge(req.http.xkey-purge);
            return (synth(200, "Purged"));
        }
        return (synth(400, "No tags"));
    }

    # Answers may be stale for ten seconds while one request fetches a new one (stale-while-revalidate). Only when the service can't answer, they
    # may be for as long as it says (stale-if-error): see vcl_synth.
    if (req.restarts == 0) {
        unset req.http.x-fetch-failed;
    }
    if (std.healthy(req.backend_hint) && !req.http.x-fetch-failed) {
        set req.grace = 10s;
    } else {
        # As much as the answer's own.
        set req.grace = 1d;
    }

    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
    # What belongs to somebody is neither looked up nor kept, nor is what a caller wants newer than what may stand here.
    if (req.http.Authorization || req.http.Cookie || req.url ~ "^/orders" || req.http.Consistency-Token ||
        req.http.If-Match || req.http.Prefer ||
        req.http.Cache-Control ~ "(?i)no-cache|no-store|only-if-cached") {
        return (pass);
    }
    return (hash);
}

sub vcl_backend_response {
    if (beresp.status >= 500) {
        # The first try is given up, so that an old answer may be given instead; the second one, when there was none, is passed on.
        if (bereq.is_bgfetch || !bereq.http.x-fetch-failed && !bereq.uncacheable) {
            return (abandon);
        }
        set beresp.uncacheable = true;
        set beresp.ttl = 0s;
        return (deliver);
    }
    if (beresp.http.CDN-Cache-Control ~ "max-age=[0-9]+" && beresp.http.Cache-Control !~ "(?i)private|no-store|no-cache") {
        # For us instead of Cache-Control (RFC 9213). Both count from when the database was read: what has passed since is taken off.
        set beresp.ttl = std.duration(regsub(beresp.http.CDN-Cache-Control, "^.*max-age=([0-9]+).*$", "\1s"), 0s) -
            std.duration(beresp.http.Age + "s", 0s);
        # Long enough for stale-if-error; how much of it holds is decided for each request.
        set beresp.grace = std.duration(regsub(beresp.http.CDN-Cache-Control, "^.*stale-while-revalidate=([0-9]+).*$", "\1s"), 0s) +
            std.duration(regsub(beresp.http.CDN-Cache-Control, "^.*stale-if-error=([0-9]+).*$", "\1s"), 0s);
        # Kept for asking with If-None-Match.
        set beresp.keep = 300s;
        if (beresp.ttl <= 0s) {
            set beresp.ttl = 1s;
        }
        return (deliver);
    }
    # No tags: as Cache-Control says, which is short, or not at all.
}

sub vcl_backend_error {
    if (bereq.is_bgfetch || !bereq.http.x-fetch-failed && !bereq.uncacheable) {
        return (abandon);
    }
}

sub vcl_synth {
    if (req.method == "PURGE") {
        set resp.http.X-Purged = req.http.x-purged;
        set resp.body = "";
        return (deliver);
    }
    # A fetch was given up: once more, and this time an answer may be as old as stale-if-error allows.
    if (resp.status == 503 && req.restarts == 0 && !req.http.x-fetch-failed) {
        set req.http.x-fetch-failed = "1";
        return (restart);
    }
}

sub vcl_deliver {
    # This cache's own member comes last (RFC 9211). What the service says before it is of when the answer was fetched.
    set req.http.x-member = "varnish; fwd=bypass";
    if (obj.hits > 0) {
        set req.http.x-member = "varnish; hit; ttl=" + regsub(obj.ttl, "\..*$", "");
    } elsif (!obj.uncacheable) {
        set req.http.x-member = "varnish; fwd=miss; stored";
    }
    if (resp.http.Cache-Status) {
        set resp.http.Cache-Status = resp.http.Cache-Status + ", " + req.http.x-member;
    } else {
        set resp.http.Cache-Status = req.http.x-member;
    }
    # Names and lifetimes for this cache only: one further on isn't purged.
    unset resp.http.xkey;
    unset resp.http.CDN-Cache-Control;
    # Of the request that fetched it.
    if (obj.hits > 0) {
        unset resp.http.X-Request-Id;
    }
}
