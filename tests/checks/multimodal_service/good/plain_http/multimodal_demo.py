"""The same service without a framework."""

import argparse
import io
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlparse

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

parser = argparse.ArgumentParser()
parser.add_argument("verb")
for name in ("painter", "reader", "port"):
    parser.add_argument(f"--{name}")
given = parser.parse_args()
pipeline = StableDiffusionPipeline.from_pretrained(given.painter, safety_checker=None)
model = AutoModelForImageTextToText.from_pretrained(given.reader, dtype=torch.float32).eval()
processor = AutoProcessor.from_pretrained(given.reader)


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, b'{"painter": true, "reader": true}')

    def do_POST(self):
        body, path = self.rfile.read(int(self.headers["Content-Length"])), urlparse(self.path)
        try:
            if path.path == "/pictures":
                return self.answer(200, paint(**json.loads(body)))
            question = parse_qs(path.query)["question"][0]
            return self.answer(200, json.dumps({"text": read(body, question)}).encode())
        except (OSError, TypeError, ValueError, KeyError) as error:
            return self.answer(400, str(error).encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def paint(prompt, seed=0, steps=20):
    if steps < 1:
        raise ValueError("at least one step")
    dice = torch.Generator().manual_seed(seed)
    made = pipeline(prompt, num_inference_steps=steps, guidance_scale=4.0, generator=dice)
    sink = io.BytesIO()
    made.images[0].save(sink, "PNG")
    return sink.getvalue()


def read(picture, question):
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    asked = processor(images=Image.open(io.BytesIO(picture)).convert("RGB"), text=text, return_tensors="pt")
    told = model.generate(
        input_ids=asked.input_ids, attention_mask=asked.attention_mask, pixel_values=asked.pixel_values,
        max_new_tokens=16, do_sample=False,
    )
    return processor.tokenizer.decode(told[0, asked.input_ids.shape[1] :], skip_special_tokens=True).strip()


server = HTTPServer(("127.0.0.1", int(given.port)), Service)
print(json.dumps({"address": f"http://127.0.0.1:{server.server_port}"}), flush=True)
server.serve_forever()
