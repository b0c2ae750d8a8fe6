"""Another way: the standard library's threads; 503 when there is no place."""

import argparse
import importlib.util
import json
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--model")
parser.add_argument("--queue-limit", type=int)
parser.add_argument("--batch-limit", type=int)
parser.add_argument("--max-delay-ms", type=float)
given = parser.parse_args()
spec = importlib.util.spec_from_file_location("model", given.model)
model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model)
waiting = queue.Queue(given.queue_limit)
counts = {"rejected": 0, "queue_peak": 0}


class Job:
    def __init__(self, token):
        self.token, self.output, self.done = token, None, threading.Event()


def work():
    while True:
        batch, until = [waiting.get()], time.monotonic() + given.max_delay_ms / 1000
        while len(batch) < given.batch_limit:
            try:
                batch.append(waiting.get(timeout=max(0.0001, until - time.monotonic())))
            except queue.Empty:
                break
        for job, output in zip(batch, model.infer([job.token for job in batch])):
            job.output = output
            job.done.set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def say(self, status, said):
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.say(200, {**counts, "queue_length": waiting.qsize()})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        job = Job(asked["token"])
        try:
            waiting.put_nowait(job)
        except queue.Full:
            counts["rejected"] += 1
            return self.say(503, {"error": "full"})
        counts["queue_peak"] = max(counts["queue_peak"], waiting.qsize())
        job.done.wait()
        return self.say(200, {"id": asked["id"], "output": job.output})


class Server(ThreadingHTTPServer):
    request_queue_size = 1024


threading.Thread(target=work, daemon=True).start()
Server(("127.0.0.1", given.port), Handler).serve_forever()
