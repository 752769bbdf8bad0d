// The client that a program of yours would use: the paths and types are generated from openapi/openapi.json, and one thing is added to
// them. Whoever wrote something sees it afterwards, whatever instance answers: each write's token goes along with all later reads.
import createClient, { type Client, type Middleware } from "openapi-fetch";
import type { components, paths } from "./schema.js";

export type Product = components["schemas"]["Product"];
export type Order = components["schemas"]["Order"];
export type Problem = components["schemas"]["ProblemDetails"];

const TOKEN = "Consistency-Token";

/** What one user has done: clients that share it see each other's writes. */
export class Session {
  private newest: string | undefined;

  /** Reads bring the newest write's token, and writes leave theirs. */
  readonly middleware: Middleware = {
    onRequest: ({ request }) => {
      if (this.newest !== undefined && request.method === "GET") request.headers.set(TOKEN, this.newest);
      return request;
    },
    onResponse: ({ request, response }) => {
      if (request.method !== "GET" && response.ok) this.newest = response.headers.get(TOKEN) ?? this.newest;
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
