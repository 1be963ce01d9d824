"""Starts the built program in a folder of its own, as a user does, and reads what it prints."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("NUDGE_BIN", str(ROOT / "target/debug/nudge"))
PATIENCE_SECS = 120
OWNER = "nudge_python_test_owner"


class Server:
    """A running demo. `environment` is added to a bare one."""

    def __init__(self, environment):
        self.folder = tempfile.mkdtemp(prefix="nudge-python-")
        # The machine that runs the tests is busy: a commit gets its time.
        patience = {"NUDGE_COMMIT_TIMEOUT_MS": "20000"}
        self.environment = {"PATH": os.environ["PATH"], **patience, **environment}
        arguments = ["demo", "--people", "200", "--data-dir", "data", "--port", "0"]
        self.log = open(Path(self.folder) / "log", "w+", encoding="utf-8")
        self.child = subprocess.Popen(
            [PROGRAM, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        # A server that does not greet in time is ended, and reading comes to its end.
        late = threading.Timer(PATIENCE_SECS, self.child.kill)
        late.start()
        greeting = ""
        for line in self.child.stdout:
            greeting += line
            if "Ctrl-C" in line:
                break
        late.cancel()
        if "Ctrl-C" not in greeting:
            self.log.seek(0)
            raise RuntimeError(f"no greeting\n{greeting}\n{self.log.read()}")
        self.url = re.search(r"http://\S+", greeting)[0]
        ask = re.search(r"userId=(\S+?)&targetDate=(\S+?)&roommateId=([^\s']+)", greeting)
        self.sample = {"userId": ask[1], "targetDate": ask[2], "roommateId": ask[3]}
        keys = json.loads(self.command("keys", "--json"))
        self.anon_key, self.service_key = keys["SUPABASE_ANON_KEY"], keys["SUPABASE_SERVICE_ROLE_KEY"]

    def command(self, *arguments):
        """Runs a command beside the server and gives what it prints."""
        done = subprocess.run(
            [PROGRAM, *arguments, "--data-dir", "data"],
            cwd=self.folder,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def token(self, user):
        return self.command("token", "--sub", user)

    def stop(self):
        self.child.terminate()
        status = self.child.wait(timeout=60)
        self.child.stdout.close()
        self.log.close()
        shutil.rmtree(self.folder)
        assert status == 0, f"the server ended with {status}"


def psql(url, sql):
    done = subprocess.run(
        ["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


class Database:
    """A PostgreSQL database with the schema, whose owner is no superuser."""

    def __init__(self):
        self.cluster = os.environ["NUDGE_TEST_POSTGRES"]
        self.name = f"nudge_python_{os.getpid()}"
        psql(
            self.cluster,
            f"""DO $$ BEGIN CREATE ROLE {OWNER} LOGIN CREATEROLE;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$""",
        )
        roles = "SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')"
        for role in psql(self.cluster, roles).split():
            psql(self.cluster, f"GRANT {role} TO {OWNER}")
        psql(self.cluster, f"CREATE DATABASE {self.name} OWNER {OWNER}")
        parts = urlsplit(self.cluster)
        host = parts.netloc.rpartition("@")[2]
        self.url = urlunsplit((parts.scheme, f"{OWNER}@{host}", f"/{self.name}", "sslmode=disable", ""))
        environment = {"PATH": os.environ["PATH"], "DATABASE_URL": self.url}
        subprocess.run([PROGRAM, "db", "push"], env=environment, check=True, capture_output=True)

    def drop(self):
        psql(self.cluster, f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
