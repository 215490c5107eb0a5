// An OpenID Connect provider for tests: node provider.js PORT AUDIENCE [CERTIFICATE KEY]. With a certificate it speaks HTTPS.
// Clients (secret: their id with "-secret" behind it) get access tokens by client credentials, as JWTs signed with RS256.
// HUP: a new key signs, the old ones stay published. USR2: only the newest key stays.
import { createHash, generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import Provider from "oidc-provider";

const [port, audience, certificate, privateKey] = process.argv.slice(2);
const issuer = `${certificate ? "https" : "http"}://127.0.0.1:${port}`;
const roles = {
  reader: { firn_tenants: { acme: "reader" } },
  writer: { firn_tenants: ["acme:writer"] },
  nobody: {},
  root: {},
};

let made = 0;
function newKey() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), use: "sig", alg: "RS256", kid: `key-${++made}` };
}

let keys = [newKey()];
let handler;

function build() {
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: Object.keys(roles).map((id) => ({
      client_id: id,
      client_secret: `${id}-secret`,
      grant_types: ["client_credentials"],
      response_types: [],
      redirect_uris: [],
    })),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => "https://lake.example.org",
        getResourceServerInfo: () => ({
          audience,
          scope: "inventory:write",
          accessTokenTTL: 600,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: "RS256", kid: keys[0].kid } },
        }),
      },
    },
    extraTokenClaims: (_, token) => roles[token.clientId],
    cookies: { keys: [createHash("sha256").update(issuer).digest("hex")] },
  });
  handler = provider.callback();
}

build();
process.on("SIGHUP", () => {
  keys = [newKey(), ...keys];
  build();
});
process.on("SIGUSR2", () => {
  keys = keys.slice(0, 1);
  build();
});
const serve = (request, response) => handler(request, response);
const server = certificate
  ? createSecureServer({ cert: readFileSync(certificate), key: readFileSync(privateKey) }, serve)
  : createServer(serve);
server.listen(Number(port), "127.0.0.1");
