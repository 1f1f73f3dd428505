"""Programs that fill the screen, in a terminal that several clients watch. An emulator
that is not ours (pyte) is fed with what each client gets: the first one everything, the
later ones what they get when they attach. They must show the same screen."""

import asyncio
import copy
import json
import os
import sys
import urllib.parse

import pyte
import websockets

BASE = os.environ["BASE"].replace("http", "ws", 1)
HEADERS = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
PATIENCE = 60


class Screen(pyte.Screen):
    """What pyte leaves out: the alternate screen, lines that are scrolled, a character that
    is repeated (ncurses uses all three), and a question that looks like a colour."""

    shell = None
    last = " "

    def draw(self, data):
        super().draw(data)
        self.last = data[-1:] or self.last

    def repeat(self, count=1):
        self.draw(self.last * max(count, 1))

    def scroll_up(self, count=1):
        self.at_the_top(self.delete_lines, count)

    def scroll_down(self, count=1):
        self.at_the_top(self.insert_lines, count)

    def at_the_top(self, change, count):
        cursor = copy.copy(self.cursor)
        self.cursor.y = self.margins.top if self.margins else 0
        change(count)
        self.cursor = cursor

    def select_graphic_rendition(self, *attributes, private=False):
        if not private:
            super().select_graphic_rendition(*attributes)

    def set_mode(self, *modes, private=False, **options):
        if private and 1049 in modes and self.shell is None:
            self.save_cursor()
            self.shell = copy.deepcopy(self.buffer)
            self.erase_in_display(2)
        super().set_mode(*modes, private=private, **options)

    def reset_mode(self, *modes, private=False, **options):
        super().reset_mode(*modes, private=private, **options)
        if private and 1049 in modes and self.shell is not None:
            self.buffer.clear()
            self.buffer.update(self.shell)
            self.shell = None
            self.restore_cursor()


class Stream(pyte.ByteStream):
    """With the sequences for it: SU, SD and REP of ECMA-48."""

    csi = pyte.ByteStream.csi | {"S": "scroll_up", "T": "scroll_down", "b": "repeat"}


class Client:
    """A client, and the screen it shows."""

    async def start(self, path):
        self.socket = await websockets.connect(
            BASE + path, additional_headers=HEADERS, max_size=None
        )
        info = json.loads(await self.socket.recv())
        assert info["type"] == "session_info", info
        self.id = info["session_id"]
        self.screen = Screen(info["cols"], info["rows"])
        self.stream = Stream(self.screen)
        return self

    async def read(self):
        message = await self.socket.recv()
        if isinstance(message, bytes):
            self.stream.feed(message)

    async def type(self, text):
        await self.socket.send(text.encode())

    async def until(self, text):
        try:
            async with asyncio.timeout(PATIENCE):
                while not any(text in line for line in self.screen.display):
                    await self.read()
        except TimeoutError:
            sys.exit(f"no {text!r} in:\n" + "\n".join(self.screen.display))

    async def resize(self, rows, cols):
        self.screen.resize(rows, cols)
        await self.socket.send(json.dumps({"type": "resize", "rows": rows, "cols": cols}))

    def seen(self):
        cells = [
            [self.screen.buffer[y][x] for x in range(self.screen.columns)]
            for y in range(self.screen.lines)
        ]
        # An empty cell looks the same whatever the colour of the letters it might have.
        looks = [
            [(c.data, c.bg, c.reverse, c.underscore) + ((c.fg, c.bold) if c.data != " " else ())
             for c in row]
            for row in cells
        ]
        cursor = self.screen.cursor
        return looks, (cursor.x, cursor.y, cursor.hidden)


async def same(first, mark):
    """Attaches, and compares once both show `mark`. What the program draws on its own
    meanwhile reaches both, so it is compared until they agree, or nothing more comes."""
    await first.until(mark)
    second = await Client().start(f"/exec/{first.id}")
    await second.until(mark)
    try:
        async with asyncio.timeout(PATIENCE):
            while first.seen() != second.seen():
                reads = [asyncio.ensure_future(client.read()) for client in (first, second)]
                await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
                for read in reads:
                    read.cancel()
                await asyncio.gather(*reads, return_exceptions=True)
    except TimeoutError:
        shown = zip(first.screen.display, second.screen.display)
        sys.exit("\n".join(f"{a!r} | {b!r}" for a, b in shown) + f"\n{first.screen.cursor} {second.screen.cursor}")
    await second.socket.close()
    print("ok", repr(mark))


def command(*words, **options):
    pairs = [("cmd", word) for word in words] + [("tty", "true"), ("stdin", "true")]
    return "/exec?" + urllib.parse.urlencode(pairs + list(options.items()))


async def vim():
    first = await Client().start(command("sh", env="PS1=prompt>", rows=24, cols=80))
    await first.type("echo before; printf '\\033[1;31mred\\033[0m\\n'\n")
    await first.type("vim -u NONE -N --cmd 'syntax on' notes.py\n")
    await first.until("[New]")
    await first.type(':set nu ruler hlsearch bg=dark\r:syntax on\r:set ft=python\r')
    await first.type('idef f(x):\r    return "\u00e4\u4e16\u754c" + x  # wide\r')
    for n in range(40):
        await first.type(f"line {n}\r")
    await first.type("\x1b:echo 'mark' 1\r")
    await same(first, "mark 1")
    await first.type("gg:split\r:vsplit\r/line\r:echo 'mark' 2\r")
    await same(first, "mark 2")
    await first.resize(40, 132)
    # Vim draws for the new size when it hears of it, over what it said before.
    await first.until(" " * 90 + "1,1")
    await first.type(":echo 'mark' 3\r")
    await same(first, "mark 3")
    await first.type("jjjVjj")  # A selection stays on the screen.
    await same(first, "VISUAL")
    # The shell's own screen comes back behind it.
    await first.type("V:qa!\r")
    await first.until("prompt>")
    await first.type("echo mark $((2*2))\n")
    await same(first, "mark 4")
    await first.type("exit\n")


async def htop():
    first = await Client().start(command("htop", "-d", "100", env="TERM=xterm-256color"))
    await first.until("PID")
    await first.type("/zzq")
    await same(first, "zzq")
    await first.type("\x1bt")
    await first.type("/yyq")
    await same(first, "yyq")
    await first.type("\x1bq")


asyncio.run(vim())
asyncio.run(htop())
