// Calls a URL with fetch and with node:http; prints status, body and peer address.
import http from "node:http";

const url = process.argv[2];

const answer = await fetch(url);
console.log(`fetch ${answer.status} ${(await answer.text()).trim()}`);

http.get(url, (response) => {
  const { remoteAddress, remotePort } = response.socket;
  let body = "";
  response.on("data", (chunk) => (body += chunk));
  response.on("end", () => console.log(`node:http ${response.statusCode} ${body.trim()} ${remoteAddress}:${remotePort}`));
});
