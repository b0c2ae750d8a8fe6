"""High concurrency: a bounded queue, dynamic batching, thousands of requests a second, several replicas."""
