// The published JavaScript SDK, unmodified: files, and watching them.

import assert from 'node:assert/strict';
import fs from 'node:fs';

const { SpritesClient } = await import(process.env.SPRITES_SDK);
const { BASE, TOKEN, NAME, DIR } = process.env;
const files = new SpritesClient(TOKEN, { baseURL: BASE }).sprite(NAME).filesystem(DIR);

await files.writeFile('a/b/note', 'one', { mode: 0o640 });
assert.equal(fs.statSync(`${DIR}/a/b/note`).mode & 0o7777, 0o640);
await files.appendFile('a/b/note', ' two');
assert.equal(await files.readFile('a/b/note', 'utf8'), 'one two');
await files.appendFile('fresh', 'first');
assert.equal(await files.readFile('fresh', 'utf8'), 'first');
await files.writeJSON('data.json', { n: 1 });
assert.deepEqual(await files.readJSON('data.json'), { n: 1 });
assert.ok((await files.stat('a/b/note')).isFile());
assert.equal(await files.exists('nobody'), false);
await files.mkdir('made');
assert.deepEqual(fs.readdirSync(`${DIR}/made`), []);
await files.mkdir('x/y/z', { recursive: true });
await files.copyFile('a', 'copied', { recursive: true });
assert.equal(fs.readFileSync(`${DIR}/copied/b/note`, 'utf8'), 'one two');
await files.rename('copied', 'renamed');
await files.chmod('renamed', 0o700, { recursive: true });
assert.equal(fs.statSync(`${DIR}/renamed/b/note`).mode & 0o7777, 0o700);
const entries = await files.readdir('.', { withFileTypes: true });
assert.ok(entries.find((entry) => entry.name === 'renamed').isDirectory());
await assert.rejects(files.rm('renamed'), (error) => error.code === 'ENOTEMPTY');
await files.rm('renamed', { recursive: true });
await assert.rejects(files.readFile('renamed'), (error) => error.code === 'ENOENT');
await files.rm('renamed', { force: true });

const watcher = await files.watch(DIR, { recursive: true });
const seen = new Promise((resolve) => watcher.on('event', (event) => {
  if (event.path) resolve(event);
}));
const poke = setInterval(() => fs.writeFileSync(`${DIR}/made/watched`, String(Date.now())), 20);
const event = await seen;
clearInterval(poke);
assert.equal(event.path, `${DIR}/made/watched`);
watcher.close();
process.exit(0);
