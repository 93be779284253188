"""The source archive does not depend on the machine and the moment that packed it."""
import io
import os
import tarfile

from tools.dist import digest, rewrite

FILES = {"pkg/a.py": b"one", "pkg/run.sh": b"two"}


def packed(path, names, **different):
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(FILES[name]), 0o755 if name.endswith(".sh") else 0o644
            for key, value in different.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(FILES[name]))
    return path


def test_archives_of_the_same_files_are_the_same_bytes(tmp_path):
    one = packed(tmp_path / "one.tar.gz", FILES)
    two = packed(tmp_path / "two.tar.gz", reversed(FILES), mtime=5, uid=os.getuid() + 1, uname="somebody")
    assert digest(one) != digest(two)
    for path in (one, two):
        rewrite(path, 1700000000)
    assert digest(one) == digest(two)
    with tarfile.open(one) as archive:
        assert {member.name: archive.extractfile(member).read() for member in archive} == FILES
        assert {member.name: member.mode for member in archive} == {"pkg/a.py": 0o644, "pkg/run.sh": 0o755}
        assert {member.mtime for member in archive} == {1700000000}
