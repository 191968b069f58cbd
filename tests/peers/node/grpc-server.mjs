// A gRPC server over TLS with one unary, one failing and one streaming method.
// Usage: grpc-server.mjs CERTIFICATE KEY AUTHORIZATION   Prints its port.
import { readFileSync } from "node:fs";
import { Metadata, Server, ServerCredentials, status } from "@grpc/grpc-js";
import { service } from "./grpc-service.mjs";

const [certificate, key, authorization] = process.argv.slice(2);
const allowed = (call) => call.metadata.get("authorization")[0] === authorization;
const refused = { code: status.UNAUTHENTICATED, details: "who are you?" };

const server = new Server();
server.addService(service, {
  echo(call, callback) {
    if (!allowed(call)) return callback(refused);
    const trailer = new Metadata();
    trailer.set("x-trailer", "seen");
    callback(null, call.request, trailer);
  },
  fail(call, callback) {
    if (!allowed(call)) return callback(refused);
    callback({ code: status.FAILED_PRECONDITION, details: "not today" });
  },
  stream(call) {
    if (!allowed(call)) return call.destroy(refused);
    call.on("data", (message) => call.write(message));
    call.on("end", () => call.end());
  },
});
const credentials = ServerCredentials.createSsl(null, [
  { cert_chain: readFileSync(certificate), private_key: readFileSync(key) },
]);
server.bindAsync("127.0.0.1:0", credentials, (error, port) => {
  if (error) throw error;
  console.log(port);
});
