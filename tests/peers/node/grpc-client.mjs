// Usage: grpc-client.mjs HOST:PORT   Plain-text gRPC, as an application behind the proxy speaks it.
import { credentials, makeGenericClientConstructor } from "@grpc/grpc-js";
import { service } from "./grpc-service.mjs";

const Client = makeGenericClientConstructor(service, "Echo");
const client = new Client(process.argv[2], credentials.createInsecure());
const deadline = () => ({ deadline: Date.now() + 10_000 });

const unary = (name) =>
  new Promise((resolve) => {
    let trailer = "";
    const call = client[name](Buffer.from("hello"), deadline(), (error, answer) =>
      setImmediate(() =>
        resolve(error ? `${name} status ${error.code} ${error.details}` : `${name} ${answer} trailer=${trailer}`),
      ),
    );
    call.on("status", (status) => (trailer = status.metadata.get("x-trailer")[0] ?? ""));
  });

const streamed = () =>
  new Promise((resolve) => {
    const call = client.stream(deadline());
    const answers = [];
    call.on("data", (message) => answers.push(message.toString()));
    call.on("error", (error) => resolve(`stream status ${error.code} ${error.details}`));
    call.on("end", () => resolve(`stream ${answers.join(",")}`));
    for (const word of ["one", "two", "three"]) call.write(Buffer.from(word));
    call.end();
  });

console.log(await unary("echo"));
console.log(await unary("fail"));
console.log(await streamed());
client.close();
