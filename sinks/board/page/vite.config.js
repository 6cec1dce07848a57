// One script and one style sheet with fixed names: the server knows them, and an exported file
// holds them as they are.
import { readFileSync, writeFileSync } from "node:fs";
import { defineConfig } from "vite";

const licenses = {
  name: "licenses",
  writeBundle() {
    const texts = ["preact", "uplot"].map(
      (name) => `${name}\n\n${readFileSync(`node_modules/${name}/LICENSE`, "utf8")}`,
    );
    writeFileSync("../built/licenses.txt", texts.join("\n\n"));
  },
};

export default defineConfig({
  plugins: [licenses],
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
  build: {
    outDir: "../built",
    emptyOutDir: true,
    cssCodeSplit: false,
    modulePreload: false,
    rollupOptions: {
      input: "src/main.tsx",
      output: { format: "iife", entryFileNames: "page.js", assetFileNames: "page[extname]" },
    },
  },
});
