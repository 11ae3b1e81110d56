"""What holds for every test."""

import os

# Before torch is imported: its threads would spin while they wait for a core that a service or
# a browser of the same test is using.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A developer's own settings must not decide how tests end, nor may a test reach a real cloud.
for name in list(os.environ):
    if name.startswith(("SFUMATO_", "AWS_", "AZURE_", "GOOGLE_")):
        del os.environ[name]

pytest_plugins = ["tests.support.servers", "tests.support.aws"]
