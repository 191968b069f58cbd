// An OAuth 2.0 server for the end-to-end tests: oidc-provider as it comes, with a few clients.
//
// Started with one argument, JSON: {"life": seconds, "tls": {"cert", "key", "ca"}?} (PEM texts).
// Prints one line of JSON, {"port", "tlsPort"}, and ends when its standard input does, so that it
// never outlives its test.
//
//   POST /token   the token endpoint
//   GET  /check   200 for a request with a token that is good now, else 401: an upstream that demands one
//   GET  /calls   how many tokens were issued

import { X509Certificate } from "node:crypto";
import http from "node:http";
import https from "node:https";

import Provider from "oidc-provider";

const { life, tls } = JSON.parse(process.argv[2]);
const common = { grant_types: ["client_credentials"], redirect_uris: [], response_types: [] };
const RESOURCE = "urn:resource:test";

const configuration = {
  clients: [
    { client_id: "body-client", client_secret: "s3cr3t-body+/%=&!|", token_endpoint_auth_method: "client_secret_post", ...common },
    { client_id: "header:client", client_secret: "s3cr3t-header+/%=: !|", token_endpoint_auth_method: "client_secret_basic", ...common },
    { client_id: "mtls-client", tls_client_auth_subject_dn: "CN=mtls-client", token_endpoint_auth_method: "tls_client_auth", ...common },
  ],
  clientAuthMethods: ["client_secret_post", "client_secret_basic", "tls_client_auth"],
  scopes: ["read", "write"],
  ttl: { ClientCredentials: life },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => peerCertificate(ctx),
      certificateAuthorized: (ctx) => ctx.socket.authorized === true,
      certificateSubjectMatches: (ctx, property, expected) =>
        property === "tls_client_auth_subject_dn" && peerCertificate(ctx)?.subject === expected,
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_ctx, indicator) => {
        if (indicator !== RESOURCE) throw new Error("unknown resource");
        return { scope: "read write", accessTokenFormat: "jwt", accessTokenTTL: life };
      },
    },
  },
};

function peerCertificate(ctx) {
  const raw = ctx.socket.getPeerCertificate?.()?.raw;
  return raw && new X509Certificate(raw);
}

let provider;
let calls = 0;

async function check(request) {
  const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? "")?.[1];
  const found = token && (await provider.ClientCredentials.find(token));
  return found !== undefined && found !== "" && found.isValid;
}

async function handle(request, response) {
  if (request.url === "/calls") return response.end(String(calls));
  if (request.url === "/check") {
    response.statusCode = (await check(request)) ? 200 : 401;
    return response.end();
  }
  return provider.callback()(request, response);
}

const listen = (server) => new Promise((done) => server.listen(0, "127.0.0.1", () => done(server.address().port)));

const port = await listen(http.createServer(handle));
const options = { ...tls, requestCert: true, rejectUnauthorized: false };
const tlsPort = tls && (await listen(https.createServer(options, handle)));
provider = new Provider(`http://127.0.0.1:${port}`, configuration);
provider.on("grant.success", () => { calls += 1; });
process.stdin.on("end", () => process.exit(0)).resume();
console.log(JSON.stringify({ port, tlsPort }));
