"""A service that is alive and, once it is told to break, answers with errors: what a Varnish in front of it does then is asked by
scenario.py. Prints the port that it has."""

import http.server


class Failing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    broken = False

    def do_GET(self):
        if self.path == "/livez" or not Failing.broken:
            kept = "public, max-age=0" if self.path == "/kept" else "no-store"
            self.answer(200, b"{}", kept, "max-age=1, stale-while-revalidate=10, stale-if-error=10")
        else:
            self.answer(503, b'{"type":"unavailable"}', "no-store")

    def do_POST(self):
        Failing.broken = True
        self.answer(200, b"{}", "no-store")

    def answer(self, status, body, cache_control, cdn_cache_control=None):
        self.send_response(status)
        self.send_header("Cache-Control", cache_control)
        if cdn_cache_control:
            self.send_header("CDN-Cache-Control", cdn_cache_control)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing)
    # Probes of a Varnish that ends break off.
    server.handle_error = lambda *_: None
    print(server.server_port, flush=True)
    server.serve_forever()
