import sys

from scripts.servers.command import main

sys.exit(main())
