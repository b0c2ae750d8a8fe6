"""Every kind and every checker, by name. Adding one: a module, a line here, a test."""

from __future__ import annotations

from tasks import rehearsal
from tasks.api import Check, Kind
from tasks.chaos import chaos
from tasks.chaos import kill as chaos_kill
from tasks.checks import (
    alert_rules,
    architecture_svg,
    bert_onnx,
    bottleneck_chart,
    cpp_source,
    cuda_coalescing,
    cuda_source,
    digits_engine,
    digits_onnx,
    dispatch_server,
    dockerfile,
    engine_script,
    finetune_script,
    flash_attention,
    frameworks_document,
    frameworks_picture,
    grafana_dashboard,
    hpa_manifest,
    inference_service,
    k8s_manifest,
    knowledge_map,
    knowledge_map_source,
    kv_cache_script,
    long_context_script,
    lora_adapter,
    metrics_exporter,
    multimodal_service,
    onnx_script,
    parallel_script,
    plugin_script,
    plugin_source,
    prometheus_config,
    prompt_cache_script,
    qa_dataset,
    readme_commands,
    redis_client,
    report_numbers,
    resume_bullets,
    service_folder,
    tactic_script,
    tensorrt_engine,
    transcript_image,
    triton_client,
    triton_config,
    triton_model_config,
    triton_repository,
    triton_serves,
    vllm_start_template,
    web_ui,
    weekly_report,
)
from tasks.containers import container_run, image_build
from tasks.cuda import bottleneck, gemm_curve, gemm_precision
from tasks.cuda import kernel as cuda_kernel
from tasks.cuda import profile as gpu_profile
from tasks.dispatching import batching as dispatch_batching
from tasks.dispatching import latency as dispatch_latency
from tasks.dispatching import load as dispatch_load
from tasks.dispatching import queueing as dispatch
from tasks.dispatching import replicas as dispatch_replicas
from tasks.dispatching import soak as llm_soak
from tasks.distributed import overlap as parallel_overlap
from tasks.distributed import sequence as parallel_sequence
from tasks.distributed import speedup as parallel_speedup
from tasks.distributed import tensor as parallel_demo
from tasks.documents import diagram as architecture
from tasks.documents import document
from tasks.documents import frameworks as framework_report
from tasks.documents import knowledge_map as knowledge_map_document
from tasks.engines import build as engine_build
from tasks.engines import calibration as engine_calibration
from tasks.engines import loading as engine_loading
from tasks.engines import precision as engine_precision
from tasks.engines import profile as engine_profile
from tasks.engines import workspace as engine_workspace
from tasks.kubernetes import autoscale
from tasks.kubernetes import disruption as k8s_disruption
from tasks.kubernetes import exposure as k8s_exposure
from tasks.kubernetes import memory as k8s_memory
from tasks.kubernetes import scheduling as k8s_scheduling
from tasks.llm import api_load as llm_api_load
from tasks.llm import assisted as assisted_generation
from tasks.llm import (
    attention_bench,
    kv_cache,
    kv_cache_heads,
    kv_cache_memory,
    kv_cache_paging,
    kv_cache_policy,
    long_context,
    long_context_load,
    prefix_cache,
    prompt_cache,
    prune,
    quantize,
    quantize_bits,
    quantize_gain,
    quantize_load,
    speculative,
    start_template,
    trtllm_build,
)
from tasks.llm import batching as llm_batching
from tasks.llm import benchmark as llm_benchmark
from tasks.llm import bottlenecks as llm_bottlenecks
from tasks.llm import ceiling as llm_ceiling
from tasks.llm import compiled as llm_compile
from tasks.llm import frameworks as llm_frameworks
from tasks.llm import generate_steps as llm_generate_steps
from tasks.llm import moe as llm_moe
from tasks.llm import profile as llm_profile
from tasks.llm import roofline as llm_roofline
from tasks.llm import serve as llm_serve
from tasks.multimodal import demo as multimodal_demo
from tasks.multimodal import diffusion, vlm
from tasks.multimodal import omni as vlm_omni
from tasks.observability import (
    alert_routing,
    alert_webhook,
    dashboard,
    dcgm,
    histogram_buckets,
    label_cardinality,
    llm_dashboard,
    llm_metrics,
    metrics_stack,
    recording_rules,
    scrape_cost,
    service_discovery,
    tracing,
)
from tasks.onnx import custom as onnx_custom
from tasks.onnx import export as onnx_export
from tasks.onnx import folding as onnx_folding
from tasks.onnx import infer as onnx_infer
from tasks.onnx import session as onnx_session
from tasks.plugins import cache as plugin_cache
from tasks.plugins import instances as plugin_instances
from tasks.plugins import latency as plugin_latency
from tasks.plugins import roundtrip as plugin_roundtrip
from tasks.plugins import shapes as plugin_shapes
from tasks.traffic import cache_proxy, soak
from tasks.traffic import canary as traffic_canary
from tasks.traffic import cost as load_cost
from tasks.traffic import limit as traffic_limit
from tasks.traffic import ramp as load_ramp
from tasks.training import accumulation as lora_accumulation
from tasks.training import comparison as lora_compare
from tasks.training import data as finetune_data
from tasks.training import deploy as lora_deploy
from tasks.training import forgetting as lora_forgetting
from tasks.training import lora as lora_finetune
from tasks.training import preference as lora_dpo
from tasks.training import qlora as lora_qlora
from tasks.triton import batching as triton_batching
from tasks.triton import bert_serve as triton_bert
from tasks.triton import colocation as triton_colocation
from tasks.triton import ensemble as triton_ensemble
from tasks.triton import instances as triton_instances
from tasks.triton import layout as triton_layout
from tasks.triton import protocols as triton_protocols
from tasks.triton import rate_limit as triton_rate_limit
from tasks.triton import response_cache as triton_cache
from tasks.triton import rollout as triton_rollout
from tasks.triton import stages as triton_stages
from tasks.triton import warmup as triton_warmup
from tasks.web import web_app

KINDS: dict[str, Kind] = {
    "alert_routing": alert_routing,
    "alert_webhook": alert_webhook,
    "assisted_generation": assisted_generation,
    "architecture": architecture,
    "autoscale": autoscale,
    "bottleneck_plan": bottleneck,
    "cache_proxy": cache_proxy,
    "chaos": chaos,
    "chaos_kill": chaos_kill,
    "container_run": container_run,
    "cuda_kernel": cuda_kernel,
    "dashboard": dashboard,
    "dcgm_exporter": dcgm,
    "diffusion": diffusion,
    "dispatch": dispatch,
    "dispatch_batching": dispatch_batching,
    "dispatch_latency": dispatch_latency,
    "dispatch_load": dispatch_load,
    "dispatch_replicas": dispatch_replicas,
    "document": document,
    "knowledge_map": knowledge_map_document,
    "engine_build": engine_build,
    "engine_calibration": engine_calibration,
    "engine_loading": engine_loading,
    "engine_precision": engine_precision,
    "engine_profile": engine_profile,
    "engine_workspace": engine_workspace,
    "lora_accumulation": lora_accumulation,
    "lora_compare": lora_compare,
    "lora_deploy": lora_deploy,
    "lora_dpo": lora_dpo,
    "lora_finetune": lora_finetune,
    "lora_forgetting": lora_forgetting,
    "lora_qlora": lora_qlora,
    "gemm_curve": gemm_curve,
    "gemm_precision": gemm_precision,
    "gpu_profile": gpu_profile,
    "framework_report": framework_report,
    "finetune_data": finetune_data,
    "histogram_buckets": histogram_buckets,
    "image_build": image_build,
    "k8s_disruption": k8s_disruption,
    "k8s_exposure": k8s_exposure,
    "k8s_memory": k8s_memory,
    "k8s_scheduling": k8s_scheduling,
    "kv_cache": kv_cache,
    "kv_cache_memory": kv_cache_memory,
    "kv_cache_policy": kv_cache_policy,
    "label_cardinality": label_cardinality,
    "llm_api_load": llm_api_load,
    "llm_batching": llm_batching,
    "llm_benchmark": llm_benchmark,
    "llm_frameworks": llm_frameworks,
    "llm_serve": llm_serve,
    "llm_ceiling": llm_ceiling,
    "llm_dashboard": llm_dashboard,
    "llm_generate_steps": llm_generate_steps,
    "llm_metrics": llm_metrics,
    "llm_moe": llm_moe,
    "llm_soak": llm_soak,
    "llm_bottlenecks": llm_bottlenecks,
    "llm_compile": llm_compile,
    "llm_profile": llm_profile,
    "llm_roofline": llm_roofline,
    "load_cost": load_cost,
    "load_ramp": load_ramp,
    "metrics_stack": metrics_stack,
    "multimodal_demo": multimodal_demo,
    "onnx_custom": onnx_custom,
    "onnx_export": onnx_export,
    "onnx_folding": onnx_folding,
    "onnx_infer": onnx_infer,
    "onnx_session": onnx_session,
    "parallel_demo": parallel_demo,
    "parallel_overlap": parallel_overlap,
    "parallel_sequence": parallel_sequence,
    "parallel_speedup": parallel_speedup,
    "plugin_cache": plugin_cache,
    "plugin_instances": plugin_instances,
    "plugin_latency": plugin_latency,
    "plugin_roundtrip": plugin_roundtrip,
    "plugin_shapes": plugin_shapes,
    "prune": prune,
    "quantize": quantize,
    "quantize_bits": quantize_bits,
    "quantize_gain": quantize_gain,
    "quantize_load": quantize_load,
    "recording_rules": recording_rules,
    "rehearsal": rehearsal,
    "start_template": start_template,
    "scrape_cost": scrape_cost,
    "service_discovery": service_discovery,
    "soak": soak,
    "speculative": speculative,
    "tracing": tracing,
    "trtllm_build": trtllm_build,
    "traffic_canary": traffic_canary,
    "traffic_limit": traffic_limit,
    "triton_batching": triton_batching,
    "triton_bert": triton_bert,
    "triton_cache": triton_cache,
    "triton_colocation": triton_colocation,
    "triton_ensemble": triton_ensemble,
    "triton_instances": triton_instances,
    "triton_layout": triton_layout,
    "triton_protocols": triton_protocols,
    "triton_rate_limit": triton_rate_limit,
    "triton_rollout": triton_rollout,
    "triton_stages": triton_stages,
    "triton_warmup": triton_warmup,
    "prompt_cache": prompt_cache,
    "vlm": vlm,
    "vlm_omni": vlm_omni,
    "web_app": web_app,
    "long_context": long_context,
    "long_context_load": long_context_load,
    "prefix_cache": prefix_cache,
    "attention_bench": attention_bench,
    "kv_cache_heads": kv_cache_heads,
    "kv_cache_paging": kv_cache_paging,
}

CHECKS: dict[str, Check] = {
    "alert_rules": alert_rules,
    "architecture_svg": architecture_svg,
    "bert_onnx": bert_onnx,
    "bottleneck_chart": bottleneck_chart,
    "cpp_source": cpp_source,
    "cuda_coalescing": cuda_coalescing,
    "cuda_source": cuda_source,
    "digits_engine": digits_engine,
    "digits_onnx": digits_onnx,
    "dispatch_server": dispatch_server,
    "dockerfile": dockerfile,
    "engine_script": engine_script,
    "finetune_script": finetune_script,
    "frameworks_document": frameworks_document,
    "frameworks_picture": frameworks_picture,
    "grafana_dashboard": grafana_dashboard,
    "hpa_manifest": hpa_manifest,
    "inference_service": inference_service,
    "k8s_manifest": k8s_manifest,
    "knowledge_map": knowledge_map,
    "knowledge_map_source": knowledge_map_source,
    "lora_adapter": lora_adapter,
    "metrics_exporter": metrics_exporter,
    "multimodal_service": multimodal_service,
    "onnx_script": onnx_script,
    "parallel_script": parallel_script,
    "plugin_script": plugin_script,
    "plugin_source": plugin_source,
    "prometheus_config": prometheus_config,
    "qa_dataset": qa_dataset,
    "readme_commands": readme_commands,
    "redis_client": redis_client,
    "report_numbers": report_numbers,
    "resume_bullets": resume_bullets,
    "service_folder": service_folder,
    "tactic_script": tactic_script,
    "tensorrt_engine": tensorrt_engine,
    "transcript_image": transcript_image,
    "triton_client": triton_client,
    "triton_config": triton_config,
    "triton_model_config": triton_model_config,
    "triton_repository": triton_repository,
    "triton_serves": triton_serves,
    "web_ui": web_ui,
    "vllm_start_template": vllm_start_template,
    "weekly_report": weekly_report,
    "kv_cache_script": kv_cache_script,
    "prompt_cache_script": prompt_cache_script,
    "long_context_script": long_context_script,
    "flash_attention": flash_attention,
}
