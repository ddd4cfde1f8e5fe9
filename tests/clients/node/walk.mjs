// Walks packages that nobody here wrote through their cases, and writes what came of each as a line of JSON; the same
// cases as those of ../python/walk.py.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import Anthropic from "@anthropic-ai/sdk";
import { generateText, isStepCount, streamText, tool } from "ai";
import OpenAI from "openai";
import { z } from "zod";

const {
  GATEWAY_URL: URL_,
  GATEWAY_TOKEN: TOKEN,
  GATEWAY_SCOPED_TOKEN: SCOPED,
  GATEWAY_UNKNOWN_TOKEN: UNKNOWN,
} = process.env;
const V1 = `${URL_}/v1`;
const GPT = "gpt-4o";
const CLAUDE = "claude-sonnet-4-5";
const RESULT = "7 degrees in Oslo";
const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };

const withTool = (client) => `${client}: use the tool weather with {"city": "Oslo"}`;
const busy = (client) => `${client}: be busy once`;

function chat() {
  const make = (token, retries) => new OpenAI({ baseURL: V1, apiKey: token, maxRetries: retries });
  const tools = [{ type: "function", function: { name: "weather", parameters: PARAMETERS } }];
  const create = (messages, more = {}, token = TOKEN, retries = 0) =>
    make(token, retries).chat.completions.create({ model: GPT, messages, ...more });
  return {
    name: "openai, chat",
    async ask({ token = TOKEN, prompt = "Hi", retries = 0 } = {}) {
      const answer = await create([{ role: "user", content: prompt }], {}, token, retries);
      return [answer.choices[0].message.content, answer.usage.completion_tokens];
    },
    async stream({ prompt = "Hi" } = {}) {
      const pieces = [];
      for await (const chunk of await create([{ role: "user", content: prompt }], { stream: true })) {
        if (chunk.choices[0]?.delta.content) pieces.push(chunk.choices[0].delta.content);
      }
      return pieces;
    },
    async tools() {
      const messages = [{ role: "user", content: withTool(this.name) }];
      const said = (await create(messages, { tools })).choices[0].message;
      messages.push(said, { role: "tool", tool_call_id: said.tool_calls[0].id, content: RESULT });
      const second = await create(messages, { tools });
      return [JSON.parse(said.tool_calls[0].function.arguments), second.choices[0].message.content];
    },
  };
}

function responses() {
  const make = (token, retries) => new OpenAI({ baseURL: V1, apiKey: token, maxRetries: retries });
  const tools = [{ type: "function", name: "weather", parameters: PARAMETERS, strict: false }];
  return {
    name: "openai, responses",
    async ask({ token = TOKEN, prompt = "Hi", retries = 0 } = {}) {
      const answer = await make(token, retries).responses.create({ model: GPT, input: prompt });
      return [answer.output_text, answer.usage.output_tokens];
    },
    async stream({ prompt = "Hi" } = {}) {
      const pieces = [];
      for await (const event of await make(TOKEN, 0).responses.create({ model: GPT, input: prompt, stream: true })) {
        if (event.type === "response.output_text.delta") pieces.push(event.delta);
      }
      return pieces;
    },
    async tools() {
      const input = [{ role: "user", content: withTool(this.name) }];
      const first = await make(TOKEN, 0).responses.create({ model: GPT, input, tools });
      const call = first.output[0];
      input.push(call, { type: "function_call_output", call_id: call.call_id, output: RESULT });
      const second = await make(TOKEN, 0).responses.create({ model: GPT, input, tools });
      return [JSON.parse(call.arguments), second.output_text];
    },
  };
}

function messages() {
  const make = (token, retries) => new Anthropic({ baseURL: URL_, apiKey: token, maxRetries: retries });
  const tools = [{ name: "weather", description: "The weather.", input_schema: PARAMETERS }];
  const create = (said, more = {}, token = TOKEN, retries = 0) =>
    make(token, retries).messages.create({ model: CLAUDE, max_tokens: 50, messages: said, ...more });
  return {
    name: "anthropic",
    async ask({ token = TOKEN, prompt = "Hi", retries = 0 } = {}) {
      const answer = await create([{ role: "user", content: prompt }], {}, token, retries);
      return [answer.content[0].text, answer.usage.output_tokens];
    },
    async stream({ prompt = "Hi" } = {}) {
      const pieces = [];
      const told = make(TOKEN, 0).messages.stream({
        model: CLAUDE,
        max_tokens: 50,
        messages: [{ role: "user", content: prompt }],
      });
      told.on("text", (piece) => pieces.push(piece));
      await told.finalMessage();
      return pieces;
    },
    async tools() {
      const said = [{ role: "user", content: withTool(this.name) }];
      const first = await create(said, { tools });
      const call = first.content[0];
      const result = { type: "tool_result", tool_use_id: call.id, content: RESULT };
      said.push({ role: "assistant", content: first.content }, { role: "user", content: [result] });
      const second = await create(said, { tools });
      return [call.input, second.content[0].text];
    },
  };
}

function vercel(name, modelOf) {
  return {
    name,
    async ask({ token = TOKEN, prompt = "Hi", retries = 0 } = {}) {
      const answer = await generateText({ model: modelOf(token), prompt, maxRetries: retries });
      return [answer.text, answer.usage.outputTokens];
    },
    async stream({ prompt = "Hi" } = {}) {
      const pieces = [];
      const told = streamText({
        model: modelOf(TOKEN),
        prompt,
        maxRetries: 0,
        onError({ error }) {
          throw error;
        },
      });
      for await (const part of told.fullStream) {
        if (part.type === "error") throw part.error;
        if (part.type === "text-delta") pieces.push(part.text);
      }
      return pieces;
    },
    async tools() {
      const asked = [];
      const weather = tool({
        description: "The weather.",
        inputSchema: z.object({ city: z.string() }),
        execute: (input) => {
          asked.push(input);
          return RESULT;
        },
      });
      const answer = await generateText({
        model: modelOf(TOKEN),
        prompt: withTool(name),
        tools: { weather },
        stopWhen: isStepCount(2),
        maxRetries: 0,
      });
      return [asked[0], answer.text];
    },
  };
}

const CLIENTS = [
  chat(),
  responses(),
  messages(),
  vercel("vercel, chat", (token) => createOpenAI({ baseURL: V1, apiKey: token }).chat(GPT)),
  vercel("vercel, responses", (token) => createOpenAI({ baseURL: V1, apiKey: token }).responses(GPT)),
  vercel("vercel, messages", (token) => createAnthropic({ baseURL: V1, apiKey: token })(CLAUDE)),
];

async function walk(client, name, run) {
  const line = { client: client.name, case: name };
  try {
    line.gave = await run();
  } catch (error) {
    const kinds = [];
    for (
      let kind = Object.getPrototypeOf(Object(error));
      kind?.constructor?.name && kind.constructor !== Object;
      kind = Object.getPrototypeOf(kind)
    ) {
      kinds.push(kind.constructor.name);
    }
    Object.assign(line, { raised: kinds, text: String(error?.message ?? error), retryable: error?.isRetryable });
  }
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

for (const client of CLIENTS) {
  await walk(client, "ask", () => client.ask());
  await walk(client, "stream", () => client.stream());
  await walk(client, "tools", () => client.tools());
  await walk(client, "retry", () => client.ask({ prompt: busy(client.name), retries: 1 }));
  await walk(client, "cut", () => client.stream({ prompt: "be cut" }));
  await walk(client, "not allowed", () => client.ask({ token: SCOPED }));
  await walk(client, "unknown key", () => client.ask({ token: UNKNOWN }));
  await walk(client, "refused", () => client.ask({ prompt: "refuse" }));
}
