"""It fills the gap with a number of its own."""

import http.server
import sys

PAGE = """# HELP nvml_up 1 when NVML answers
# TYPE nvml_up gauge
nvml_up 0
# HELP gpu_temperature_celsius By NVML
# TYPE gpu_temperature_celsius gauge
gpu_temperature_celsius{uuid="GPU-0"} 42
"""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PAGE.encode())


http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
