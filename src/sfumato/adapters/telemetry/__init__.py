"""OpenTelemetry's traces and Prometheus' metrics. Each is imported where it is asked for alone."""
