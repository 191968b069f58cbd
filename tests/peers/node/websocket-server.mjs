// A WebSocket server that greets at once, then echoes. Refuses (401) whoever lacks the credential.
// Usage: websocket-server.mjs AUTHORIZATION   Prints its port.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const authorization = process.argv[2];
const server = createServer();
const sockets = new WebSocketServer({ noServer: true });

server.on("upgrade", (request, socket, head) => {
  if (request.headers.authorization !== authorization) {
    socket.end("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    return;
  }
  sockets.handleUpgrade(request, socket, head, (webSocket) => {
    webSocket.send("welcome"); // the first frame follows the 101 at once
    webSocket.on("message", (data, isBinary) => webSocket.send(data, { binary: isBinary }));
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
