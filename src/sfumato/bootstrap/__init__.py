"""The only place that names a concrete adapter or engine: settings in, running processes out.

``serve.serve``, ``work.work``, ``doctor.doctor`` and ``folder.running_service`` are the entries.
Each is imported from its own module, so that a worker does not wait for the web framework, nor
the service for what a worker needs.
"""
