"""`python -m pds_lite` is the `pds-lite` command."""

import sys

from pds_lite.cli.main import main

sys.exit(main())
