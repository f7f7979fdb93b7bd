#!/usr/bin/env python3
"""Print when pgBackRest's newest backup of a stanza was finished: pgbackrest.py STANZA."""

import json
import subprocess
import sys

command = ["pgbackrest", f"--stanza={sys.argv[1]}", "--output=json", "info"]
stanzas = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
backups = [backup for stanza in stanzas for backup in stanza["backup"] if not backup.get("error")]
print(max((backup["timestamp"]["stop"] for backup in backups), default=""))
