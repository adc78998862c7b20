import { defineConfig } from 'vite'

// `npm run dev` shows the page with the data of a `limber dash` that runs beside it.
export default defineConfig({
  base: './',
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: false, reportCompressedSize: false },
  server: { proxy: { '/api': 'http://127.0.0.1:8080' } },
})
