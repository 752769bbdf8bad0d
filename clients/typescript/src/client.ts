// The client that a program of yours would use: the paths and types are generated from openapi/openapi.json, and one thing is added to
// them. Whoever wrote something sees it afterwards, whatever instance answers: the token of the writes goes along with all later reads.
import createClient, { type Client, type Middleware } from "openapi-fetch";
import type { components, paths } from "./schema.js";

export type Product = components["schemas"]["Product"];
export type Order = components["schemas"]["Order"];
export type Problem = components["schemas"]["ProblemDetails"];

const TOKEN = "Consistency-Token";

/**
 * The one of two tokens that covers both writes. A token is an epoch of the database and a moment in it, and a later moment covers the earlier
 * ones: answers of writes that overlap may come in the other order. Of another epoch only what came last can still be asked for.
 */
export function covering(held: string | undefined, came: string): string {
  const [epoch, moment] = parts(came);
  if (held === undefined) return came;
  const [heldEpoch, heldMoment] = parts(held);
  return heldEpoch === epoch && heldMoment > moment ? held : came;
}

// Moments are whole numbers of up to 19 digits, more than a `number` holds.
function parts(token: string): [string, bigint] {
  const [, epoch = token, moment = "0"] = /^([^-]*)-(\d+)$/.exec(token) ?? [];
  return [epoch, BigInt(moment)];
}

/** What one user has done: clients that share it see each other's writes. */
export class Session {
  private token: string | undefined;

  /** Reads bring the token of all writes so far, and writes leave theirs. */
  readonly middleware: Middleware = {
    onRequest: ({ request }) => {
      if (this.token !== undefined && request.method === "GET") request.headers.set(TOKEN, this.token);
      return request;
    },
    onResponse: async ({ request, response }) => {
      const came = response.headers.get(TOKEN);
      // A token that the service can't have given, as after the database's clock was put right, would be refused again and again.
      if (response.status === 400 && request.headers.has(TOKEN)) {
        // A proxy on the way may answer with something else than a problem.
        const problem = (await response.clone().json().catch(() => undefined)) as Problem | undefined;
        if (problem?.errors?.some((error) => error.header === TOKEN)) this.token = undefined;
      }
      if (request.method !== "GET" && response.ok && came !== null) this.token = covering(this.token, came);
      return response;
    },
  };
}

/** A client of one address of the service. */
export function aside(baseUrl: string, session = new Session()): Client<paths> {
  const client = createClient<paths>({ baseUrl });
  client.use(session.middleware);
  return client;
}

/** The answer's body, or an error that shows the problem. */
export function expected<T>(answer: { data?: T; error?: Problem; response: Response }): T {
  if (answer.data !== undefined) return answer.data;
  const { error, response } = answer;
  throw new Error(`${response.status} ${error?.type ?? ""}: ${error?.detail ?? response.statusText}`);
}
