// Usage: websocket-client.mjs URL   Sends a text and 1 MiB of bytes, prints what comes back.
import { createHash, randomBytes } from "node:crypto";
import WebSocket from "ws";

const webSocket = new WebSocket(process.argv[2], { handshakeTimeout: 10_000 });
const blob = randomBytes(1 << 20);
let received = 0;

webSocket.on("error", (error) => {
  console.log(`error ${error.message}`);
  process.exit(1);
});
webSocket.on("open", () => {
  webSocket.send("ping");
  webSocket.send(blob);
});
webSocket.on("message", (data, isBinary) => {
  const same = isBinary && createHash("sha256").update(data).digest("hex") === createHash("sha256").update(blob).digest("hex");
  console.log(isBinary ? `binary ${data.length} ${same}` : `text ${data}`);
  received += 1;
  if (received === 3) webSocket.close(1000);
});
webSocket.on("close", (code) => console.log(`closed ${code}`));
