# SPDX-License-Identifier: Apache-2.0
"""Files of sessions in real VMs: execsandboxctl cp and ls."""

import json
import os
import subprocess
import tempfile
import unittest

from support import DEADLINE, HERE, SOCKET, DaemonTest, vms_seen

CTL = os.environ.get("EXECSANDBOXCTL", os.path.join(HERE, "../../build/ctl/execsandboxctl"))
BIG_BYTES = 30_000_000


@unittest.skipUnless(os.access(CTL, os.X_OK), "needs execsandboxctl, see EXECSANDBOXCTL")
class Copy(DaemonTest):
    def test_all(self):
        """Both ways: trees, large files, replacing, modes, pipes, hostile names, errors. One session for all."""
        made = self.client.call("session.create", language="shell", limits={"disk_mb": 64})
        vms_seen.add(made["vm"])
        self.session = made["session"]
        self.addCleanup(lambda: self.client.call("session.close", session=self.session))
        for part in (self.trees, self.large, self.replaced_at_once, self.pipes, self.hostile, self.ls, self.errors):
            with self.subTest(part=part.__name__), tempfile.TemporaryDirectory() as self.here:
                self.folder = part.__name__
                self.client.call("file.mkdir", session=self.session, path=self.folder)
                part()

    # Here, and there: each part has a directory in both places.

    def there(self, path=""):
        return f"{self.session}:{self.folder}/{path}"

    def exec(self, command):
        """What a shell prints in the directory there."""
        result = self.client.call("session.exec", session=self.session, command=f"cd {self.folder}\n{command}")
        self.assertEqual((result["status"], result["stderr"]), ("ok", ""), result)
        return result["stdout"]

    def local(self, command):
        return subprocess.run(["sh", "-c", command], cwd=self.here, capture_output=True, text=True, check=True).stdout

    def ctl(self, *words, stdin=b"", status=0):
        """(stdout, stderr)"""
        done = subprocess.run([CTL, "--socket", SOCKET, *words], input=stdin, capture_output=True, cwd=self.here,
                              timeout=DEADLINE, check=False, umask=0o022)
        self.assertEqual(done.returncode, status, (words, done.stderr))
        return done.stdout, done.stderr.decode(errors="replace")

    # The parts.

    LOOK = "cd tree && find . -type f -exec sha256sum {} + | sort; find . ! -type l -exec stat -c '%A %n' {} + | sort"

    def trees(self):
        """A directory goes in and comes out: content, modes, times; not its links."""
        self.local("mkdir -p tree/a/b tree/empty && echo x >tree/a/b/x && echo run >'tree/a/run me' && chmod 755 tree/a/r* &&"
                   " chmod 600 tree/a/b/x && touch tree/-n 'tree/ü' && seq 1 60 | split -l 1 - tree/a/b/many. &&"
                   " chmod 700 tree/empty")
        look = self.local(self.LOOK)
        os.symlink("/etc/passwd", os.path.join(self.here, "tree/link"))
        self.assertIn("the first is 'link'", self.ctl("cp", "-r", "tree", self.there())[1])
        self.assertEqual(self.exec(self.LOOK), look)
        self.exec("touch -d 2001-02-03T04:05:06.789Z tree/a/b/x; ln -s a tree/link; mkfifo tree/pipe")
        os.rename(os.path.join(self.here, "tree"), os.path.join(self.here, "sent"))
        out, err = self.ctl("cp", "-r", "--json", self.there("tree"), ".")
        self.assertEqual(json.loads(out), {"files": 64, "directories": 4, "bytes": 177, "left_out": 2})
        self.assertEqual(self.local(self.LOOK), look)
        self.assertEqual(os.stat(os.path.join(self.here, "tree/a/b/x")).st_mtime_ns, 981173106789000000)
        # Into one that is there: what is in it, by '/.'.
        self.ctl("cp", "-r", "tree/a/.", self.there("tree/empty"))
        self.assertEqual(self.exec("ls tree/empty"), "b\nrun me\n")

    def large(self):
        """30 MB both ways are the same; a directory gets the file under its name."""
        self.local(f"head -c {BIG_BYTES} /dev/urandom >big && chmod 751 big && mkdir d")
        self.ctl("cp", "big", self.there())
        self.assertEqual(self.exec("sha256sum big; stat -c %a big; ls -A"),
                         self.local("sha256sum big; stat -c %a big; echo big"))
        self.ctl("cp", self.there("big"), "d")
        self.assertEqual(self.local("cmp big d/big; stat -c %a d/big; ls -A d"), "751\nbig\n")
        self.client.call("file.remove", session=self.session, path=f"{self.folder}/big")

    def replaced_at_once(self):
        """Readers see the old file or the new one; a copy that ends early changes nothing, and leaves nothing."""
        self.exec("yes old | head -c 1000 >f")
        self.local("yes new | head -c 3000000 >f")
        watch = self.client.request("session.exec", session=self.session, timeout_seconds=DEADLINE, command=(
            f"cd {self.folder}; {{ stat -c %s f; touch ready; while [ ! -e stop ]; do stat -c %s f; done; }} | sort -u"))
        self.until(lambda: "ready" in self.ctl("ls", self.there())[0].decode(), "the watcher")
        for _ in range(3):
            self.ctl("cp", "f", self.there("f"))
        self.ctl("cp", "-", self.there("stop"))
        self.assertEqual(self.client.wait(watch)["stdout"], "1000\n3000000\n")
        self.assertEqual(self.exec("ls -A"), "f\nready\nstop\n")
        with subprocess.Popen([CTL, "--socket", SOCKET, "cp", "-", self.there("f")], stdin=subprocess.PIPE) as process:
            process.stdin.write(bytes(5_000_000))
            process.stdin.flush()
            process.terminate()
            self.assertEqual(process.wait(DEADLINE), 143)
        self.assertEqual(self.exec("stat -c %s f; ls -A"), "3000000\nf\nready\nstop\n")
        self.local("echo old >kept; mkdir d; ln -s ../kept d/f")
        self.ctl("cp", self.there("f"), "d/f")
        self.assertEqual(self.local("cat kept; stat -c '%F %s' d/f; ls -A d"), "old\nregular file 3000000\nf\n")

    def pipes(self):
        """Standard input and output, of any size."""
        data = os.urandom(2_500_000)
        self.ctl("cp", "-", self.there("new/f"), stdin=data)
        self.assertEqual(self.ctl("cp", self.there("new/f"), "-"), (data, ""))
        self.ctl("cp", "-", self.there("empty"))
        self.assertEqual(self.ctl("cp", self.there("empty"), "-"), (b"", ""))

    def hostile(self):
        """Names, links and modes of a guest's choice do nothing here."""
        self.exec("mkdir t && cd t && ln -s / root && ln -s ../../../../etc/passwd passwd && touch -- -rf '*' \"$(printf 'a\\nb')\" "
                  "'..x' '$(id)' && echo x >root-shell && chmod 6755 root-shell && ln -s t loop")
        self.ctl("cp", "-r", self.there("t"), ".")
        self.assertEqual(sorted(os.listdir(os.path.join(self.here, "t"))), ["$(id)", "*", "-rf", "..x", "a\nb", "root-shell"])
        self.assertEqual(self.local("stat -c %a t/root-shell"), "755\n")
        self.ctl("cp", self.there("t/passwd"), "p", status=1)
        self.exec("mkdir u && touch u/a && touch \"$(printf 'u/\\377')\"")
        self.assertIn("is not UTF-8", self.ctl("cp", "-r", self.there("u"), ".", status=1)[1])
        self.assertEqual(sorted(os.listdir(self.here)), ["t"])
        self.assertRegex(self.ctl("ls", self.there("u"))[0].decode(), r"(?m)^-rw-r--r-- +0 .* \?$")

    def ls(self):
        self.exec("mkdir d && echo x >d/f && chmod 640 d/f && ln -s f d/l")
        rows = [line.split(maxsplit=3) for line in self.ctl("ls", self.there("d"))[0].decode().splitlines()]
        self.assertEqual([row[:2] + row[3:] for row in rows], [
            ["MODE", "SIZE", "NAME"], ["-rw-r-----", "2", "f"], ["lrwxrwxrwx", "1", "l -> f"]])
        self.assertIn(" f\n", self.ctl("ls", self.there("d/f"))[0].decode())
        listed = json.loads(self.ctl("ls", "-r", "--json", self.session)[0])
        self.assertIn(f"{self.folder}/d/f", [one["name"] for one in listed["entries"]])

    def errors(self):
        """Each has its exit status and says what it is about."""
        self.local("mkdir d; echo x >f")
        self.exec("mkdir d; touch f; mkdir closed; echo x >closed/f; chmod 0 closed/f")
        for status, words, reason in (
            (3, (self.there("no"), "."), "does not exist"), (3, ("ses_0:f", "."), "ses_0"),
            (1, (self.there("d"), "."), "is a directory\nhint: -r"), (1, ("d", self.there()), "is a directory\nhint: -r"),
            (1, ("-r", "d", self.there("f")), "exists already"), (1, ("f", f"{self.session}:/etc/f"), "is not below /home/user"),
            (1, ("f", f"{self.session}:../f"), "leads out"), (1, ("no", self.there()), "No such file"),
            (1, ("-r", self.there("closed"), "."), "not for the session's user"), (1, (self.there("f"), "no/f"), "No such file"),
            (2, ("f", "g"), "in a session"),
        ):
            self.assertIn(reason, self.ctl("cp", *words, status=status)[1])
        self.assertEqual(subprocess.run([CTL, "--socket", "/none", "cp", "f", self.there()], cwd=self.here,
                                        capture_output=True, check=False).returncode, 4)
        self.ctl("ls", self.there("no"), status=3)
        full = self.ctl("cp", "-", self.there("full"), stdin=bytes(80_000_000), status=1)[1]
        self.assertIn("finds no ", full)
        self.assertNotIn("full", self.exec("ls"))
