// One scenario with basic-ftp, in the current folder: HOST USER PASSWORD SCENARIO; BASIC_FTP is where it is.
const { Readable, Writable } = require("node:stream");
const { Client } = require(process.env.BASIC_FTP);

const [host, user, password, scenario] = process.argv.slice(2);
// 0xFF is a letter of CP1251, and with another one behind it a Telnet command.
const name = Buffer.from("eee1fafff2e8ff20ffff20fffdf52e747874", "hex").toString("latin1");

function check(holds, what) {
  if (!holds) throw new Error(what);
}

async function session() {
  const client = new Client(8000);
  client.ftp.verbose = true;
  client.ftp.encoding = "latin1";
  await client.access({ host, user, password });
  return client;
}

async function fetch(client, path) {
  const blocks = [];
  await client.downloadTo(new Writable({ write: (block, _, done) => (blocks.push(block), done()) }), path);
  return Buffer.concat(blocks);
}

const scenarios = {
  async names(client) {
    const text = "text".repeat(250);
    await client.uploadFrom(Readable.from([Buffer.from(text)]), `inbox/${name}`);
    check((await fetch(client, `inbox/${name}`)).toString() === text, "other bytes");
    await client.rename(`inbox/${name}`, `inbox/2${name}`);
    await client.uploadFrom(Readable.from([Buffer.from(text)]), `inbox/${name}`);
    await client.remove(`inbox/${name}`);
    return client;
  },
  async listing(client) {
    await client.uploadFrom(Readable.from([Buffer.from("text")]), `inbox/${name}`);
    check((await client.list("inbox")).some((file) => file.name.includes(name)), "the name is not listed");
    return client;
  },
  async keepalive(client) {
    let taken = 0;
    let sent = 0;
    const write = (block, _, done) => {
      taken += block.length;
      if (Math.floor(taken / (2 << 20)) > sent) {
        client.ftp.socket.write("NOOP\r\n");
        sent += 1;
      }
      done();
    };
    await client.downloadTo(new Writable({ write }), "shelf/big.bin");
    check(taken === 8 << 20, `${taken} bytes`);
    // The answers that the transfer has not taken as its own.
    await new Promise((resolve) => setTimeout(resolve, 500));
    return client;
  },
  async abort(client) {
    const write = () => client.close();
    await client.downloadTo(new Writable({ write }), "shelf/big.bin").then(
      () => check(false, "it did not end"),
      () => {},
    );
    return session();
  },
};

async function main() {
  const client = await scenarios[scenario](await session());
  // The session goes on as if nothing had been.
  check(await client.pwd(), "pwd");
  check((await fetch(client, "shelf/small/01.txt")).length === 600, "other bytes");
  client.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
