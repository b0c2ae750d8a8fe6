"""An exporter by hand, without a library: it looks once, when it starts."""

import http.server
import sys

import pynvml

page = "# HELP nvml_up 1 when NVML answers\n# TYPE nvml_up gauge\nnvml_up %d\n"
try:
    pynvml.nvmlInit()
    page = page % 1 + "# HELP gpu_temperature_celsius By NVML\n# TYPE gpu_temperature_celsius gauge\n"
    for index in range(pynvml.nvmlDeviceGetCount()):
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        celsius = pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)
        page += 'gpu_temperature_celsius{uuid="%s"} %d\n' % (pynvml.nvmlDeviceGetUUID(gpu), celsius)
except pynvml.NVMLError:
    page = page % 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page.encode())


http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
