"""Tensor and sequence parallelism: the learner's demo on real ranks, equality, bytes and time shares."""
