"""The published Python SDK, unmodified, against a running sprite-env: commands, sessions,
control connections, checkpoints. Each check prints its name; the first failure ends it."""

import asyncio
import io
import os
import threading

from sprites import AsyncSpritesClient, ExecError, NotFoundError, SpritesClient
from sprites.session import kill_session

BASE, TOKEN, NAME = (os.environ[name] for name in ("BASE", "TOKEN", "NAME"))


def equal(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def describes_the_environment(client, sprite):
    equal(client.get_sprite(NAME).name, NAME)
    equal([s.name for s in client.list_all_sprites()], [NAME])
    equal(client.create_sprite(NAME).name, NAME)
    try:
        client.get_sprite("another")
        raise AssertionError("another environment was found")
    except NotFoundError:
        pass


def output_and_exit_codes(client, sprite):
    done = sprite.run("sh", "-c", "echo out; echo err >&2; exit 7", capture_output=True)
    equal((done.returncode, done.stdout, done.stderr), (7, b"out\n", b"err\n"))
    equal(sprite.run("sh", "-c", "kill -TERM $$").returncode, 143)
    done = sprite.run("/no/such/program", capture_output=True)
    equal(done.returncode, 127)
    assert b"/no/such/program" in done.stderr, done.stderr
    equal(sprite.command("pwd", cwd="/usr").output(), b"/usr\n")
    equal(sprite.command("sh", "-c", "echo $A", env={"A": "x=y z"}).output(), b"x=y z\n")


def input_to_its_end(client, sprite):
    equal(sprite.command("cat", stdin=io.BytesIO(b"in\x00put")).output(), b"in\x00put")
    # Without input the command sees its end at once.
    equal(sprite.command("cat").output(), b"")


def twenty_megabytes_each_way(client, sprite):
    data = os.urandom(1 << 20) * 20
    out = sprite.command("cat", stdin=io.BytesIO(data)).output()
    assert out == data, (len(out), len(data))


def a_terminal(client, sprite):
    done = sprite.run("sh", "-c", "tty; stty size; exit 5", capture_output=True, tty=True)
    lines = done.stdout.decode().split()
    assert lines[0].startswith("/dev/pts/"), lines
    equal((lines[1:], done.returncode), (["24", "80"], 5))
    done = sprite.run("stty", "size", capture_output=True, tty=True, tty_rows=5, tty_cols=7)
    equal((done.stdout.split(), done.returncode), ([b"5", b"7"], 0))


def sessions(client, sprite):
    begun = threading.Event()

    class Out(io.RawIOBase):
        def write(self, data):
            begun.set()
            return len(data)

    # It counts its clients' input, and ends when killed.
    command = sprite.command("sh", "-c", "echo begun; exec sleep 1000", stdout=Out())
    runner = threading.Thread(target=lambda: codes.append(code_of(command)))
    codes = []
    runner.start()
    assert begun.wait(60)
    (session,) = sprite.list_sessions()
    equal(session.command, "sh -c echo begun; exec sleep 1000")
    assert session.is_active and not session.tty
    watched = []
    attached = sprite.attach_session(session.id)
    watcher = threading.Thread(target=lambda: watched.append(output_of(attached)))
    watcher.start()
    kinds = [m.type for m in kill_session(sprite, session.id)]
    equal(kinds, ["signal", "exited", "complete"])
    runner.join(60)
    watcher.join(60)
    equal(codes, [143])
    equal(watched, [(143, b"begun\n")])
    equal(sprite.list_sessions(), [])


def code_of(command):
    try:
        command.run()
        return 0
    except ExecError as error:
        return error.exit_code()


def output_of(command):
    try:
        return 0, command.output()
    except ExecError as error:
        return error.exit_code(), error.stdout


def checkpoints(client, sprite):
    # The answer is read to its end before the next request.
    made = [m.type for m in sprite.create_checkpoint("from python")]
    equal(made[-1], "complete")
    newest = sprite.list_checkpoints()[0]
    equal(sprite.get_checkpoint(newest.id).id, newest.id)


async def asynchronously():
    async with AsyncSpritesClient(token=TOKEN, base_url=BASE) as client:
        sprite = client.sprite(NAME)
        done = await sprite.run("sh", "-c", "cat; exit 3", capture_output=True)
        equal((done.returncode, done.stdout), (3, b""))
        many = [sprite.command("echo", str(n)).output() for n in range(50)]
        equal(await asyncio.gather(*many), [b"%d\n" % n for n in range(50)])


async def over_control_connections():
    async with AsyncSpritesClient(token=TOKEN, base_url=BASE, control_mode=True) as client:
        sprite = client.sprite(NAME)
        for code in (0, 9):
            done = await sprite.run("sh", "-c", f"echo out; exit {code}", capture_output=True)
            equal((done.returncode, done.stdout), (code, b"out\n"))
        out = await sprite.command("cat", stdin=io.BytesIO(b"through")).output()
        equal(out, b"through")
        done = await sprite.run("sh", "-c", "stty size; exit 4", capture_output=True, tty=True)
        equal((done.stdout.split(), done.returncode), ([b"24", b"80"], 4))
        assert sprite.has_control_connection()
        await sprite.close_control_connection()


def main():
    client = SpritesClient(token=TOKEN, base_url=BASE)
    sprite = client.sprite(NAME)
    for check in (
        describes_the_environment,
        output_and_exit_codes,
        input_to_its_end,
        twenty_megabytes_each_way,
        a_terminal,
        sessions,
        checkpoints,
    ):
        check(client, sprite)
        print("ok", check.__name__, flush=True)
    for check in (asynchronously, over_control_connections):
        asyncio.run(check())
        print("ok", check.__name__, flush=True)


if __name__ == "__main__":
    main()
