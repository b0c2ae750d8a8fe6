"""Alert rules proved by what they do: in simulated time by promtool, in real time by Prometheus and Alertmanager."""
