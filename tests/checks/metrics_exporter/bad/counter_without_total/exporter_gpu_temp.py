"""A counter whose name does not end in _total."""

import http.server
import sys

PAGE = """# HELP nvml_up 1 when NVML answers
# TYPE nvml_up gauge
nvml_up 0
# HELP nvml_failures Failed readings
# TYPE nvml_failures counter
nvml_failures 3
"""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PAGE.encode())


http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
