"""Proves a service by running it: its one command starts everything, a digit is seen, Prometheus sees Triton."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from tasks import api
from tasks.checks.service_folder import expressions
from tasks.services import inference_service
from tasks.services.inference_service import Service

SCRAPED_S = 15  # rate() needs two scrapes


class Params(api.Params):
    """`smoke` is the folder's own script that asks the running service for one answer and exits 0 when it is right."""

    smoke: str = "smoke.py"


def needs(params: Params) -> api.Needs:
    return api.Needs("Triton", environment="triton", binaries=("nginx", "prometheus", "setpriv"), memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    if not file.is_dir():
        return api.Verdict(False, f"there is no folder {file.name}")
    try:
        with inference_service.serve(file, work.scratch, work.scratch / "service.log") as service:
            return judged(file, service)
    except api.UserError as error:
        return api.Verdict(False, str(error))


def judged(folder: Path, service: Service) -> api.Verdict:
    if fault := wrong_answer(folder, service):
        return api.Verdict(False, fault)
    if silent := unanswered(folder, service):
        return api.Verdict(False, f"no samples for {', '.join(silent)}", {"without": silent})
    panels = len(list(expressions(folder)))
    message = f"started by one command; ten digits answered as by its model; {panels} dashboard queries have samples"
    return api.Verdict(True, message, {"queries": panels})


def wrong_answer(folder: Path, service: Service) -> str:
    """What is wrong with the gateway's answers to ten random digits, against the model's ONNX file run here."""
    import numpy as np
    import onnxruntime

    images = np.random.default_rng(90).random((10, inference_service.PIXELS), dtype=np.float32)
    onnx = next(iter(sorted(folder.glob("models/*/1/model.onnx"))), None)
    if onnx is None:
        return "models/ has no model.onnx to compare the answers with"
    session = onnxruntime.InferenceSession(str(onnx))
    expected = session.run(None, {session.get_inputs()[0].name: images})[0]
    for image, truth in zip(images, expected, strict=True):
        try:
            given = np.array(inference_service.logits(service, image.tolist()))
        except HTTPError as error:
            return f"the gateway answers {error.code}: {error.read().decode(errors='replace')[:200]}"
        if not np.allclose(given, truth, atol=1e-3):
            return f"the service answers {given[:3]}… where its model says {truth[:3]}…"
    return ""


def unanswered(folder: Path, service: Service) -> list[str]:
    """The dashboard's panels without samples, although the service was just used."""
    waiting, end = dict(expressions(folder)), time.monotonic() + SCRAPED_S
    while waiting and time.monotonic() < end:
        inference_service.logits(service, [0.5] * inference_service.PIXELS)
        waiting = {title: expression for title, expression in waiting.items() if not samples(service, expression)}
        time.sleep(0.2)
    return sorted(waiting)


def samples(service: Service, expression: str) -> list[object]:
    try:
        with urlopen(f"{service.prometheus}/api/v1/query?{urlencode({'query': expression})}", timeout=10) as answer:
            found: list[object] = json.load(answer)["data"]["result"]
    except HTTPError as error:
        raise api.UserError(f"Prometheus: {json.load(error)['error']}", where=expression) from error
    return found
