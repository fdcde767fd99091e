"""How a receiver is doing and what a store holds: one snapshot, for a file, people, Prometheus.

``snapshot`` is the value, ``monitor`` takes it, ``file`` keeps it on disk, ``text`` tells it,
``prometheus`` serves it, ``report`` does so again and again, ``store`` looks at a whole store.
"""
