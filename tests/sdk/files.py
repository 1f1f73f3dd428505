"""The published Python SDK, unmodified: files."""

import asyncio
import os

from sprites import (
    AsyncSpritesClient,
    DirectoryNotEmptyError,
    FileNotFoundError_,
    IsADirectoryError_,
    SpritesClient,
)

BASE, TOKEN, NAME, DIR = (os.environ[name] for name in ("BASE", "TOKEN", "NAME", "DIR"))


def raises(kind, act):
    try:
        act()
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")


def main():
    fs = SpritesClient(token=TOKEN, base_url=BASE).sprite(NAME).filesystem(DIR)
    note = fs / "deep" / "er" / "note.txt"
    assert not note.exists()
    note.write_text("hällo")
    assert note.read_text() == "hällo" and note.is_file()
    assert os.path.getsize(f"{DIR}/deep/er/note.txt") == 6
    note.write_bytes(bytes(range(256)) * 4096)
    assert note.read_bytes() == bytes(range(256)) * 4096
    assert note.stat().size == 1 << 20
    note.chmod(0o600)
    assert os.stat(f"{DIR}/deep/er/note.txt").st_mode & 0o7777 == 0o600
    moved = note.rename(f"{DIR}/deep/moved")
    assert moved.exists() and not note.exists()
    moved.copy_to(f"{DIR}/copy")
    assert (fs / "copy").read_bytes() == moved.read_bytes()
    made = fs / "made"
    made.mkdir()
    assert os.listdir(f"{DIR}/made") == []
    (fs / "a" / "b").mkdir(parents=True)
    assert os.path.isdir(f"{DIR}/a/b")
    raises(FileNotFoundError_, lambda: (fs / "x" / "y" / "z").mkdir())
    assert sorted((fs / "deep").listdir()) == ["er", "moved"]
    raises(FileNotFoundError_, lambda: (fs / "nobody").read_bytes())
    raises(IsADirectoryError_, lambda: (fs / "deep").read_bytes())
    raises(DirectoryNotEmptyError, lambda: (fs / "deep").rmdir())
    (fs / "deep").rmtree()
    assert not os.path.exists(f"{DIR}/deep")
    raises(FileNotFoundError_, lambda: (fs / "nobody").unlink())
    (fs / "nobody").unlink(missing_ok=True)
    (fs / "touched").touch()
    assert os.path.exists(f"{DIR}/touched")


async def asynchronously():
    async with AsyncSpritesClient(token=TOKEN, base_url=BASE) as client:
        path = client.sprite(NAME).filesystem(DIR) / "async"
        await path.write_text("later")
        assert await path.read_text() == "later"
        await path.unlink()
        assert not await path.exists()


if __name__ == "__main__":
    main()
    asyncio.run(asynchronously())
