r"""Hand-made pairs for MATH that are wrong in lenient mode, one a line: `answer ## reference`."""

REJECTED = [
    tuple(line.split(" ## "))
    for line in r"""
0.33 ## \frac{1}{3}
0.333333333333333333333 ## \frac13
3.14159265358979323846 ## \pi
1.41421356237309504880 ## \sqrt{2}
-\frac{1}{-2} ## -\frac{1}{2}
\frac{1}{2} ## 1\frac{1}{2}
1.0000001 ## 1
y=5 ## x=5
y = 2x ## y=2x+1
[2,5] ## (2,5)
(2,5] ## (2,5)
1,2,2 ## 1,2
1,2 ## 1,2,2
1,2,3,4 ## 1,2,3
2 ## \pm 2
(2,1) ## (1,2)
2,1 ## (1,2)
(1,2,3) ## (1,2)
2516_9 ## 2516_8
40_8 ## 40
y^2+2y+1 ## x^2+2x+1
\text{west} ## \text{east}
Evenly ## \text{Evelyn}
5² ## 52
\frac{0}{0} ## 0
-\infty ## \infty
5 ## \infty
\infty ## 5
1000000! ## 5
(10^{6})! ## 5
x^{x^{x^{x^{x^{x^x}}}}} ## 5
(1+x)^{100000} ## 5
(a+b+c+d+e+f+g)^{60} ## 5
9^{9^{9^{9}}} ## 5
0.5 ## 50\%
\frac12 ## 50\%
50\% ## 0.5
\frac{1}{2^{99}} ## \frac{1}{2^{98}}
1 2 ## 12
4{10} ## 40
6 ## 6,250
6,25 ## 6,250
2516 ## 2516.8
5x ## 5
5 x ## 5
5 ## 5x
2b ## 2
316 ## 319
5 million ## 5
about 5 ## 5
not 5 ## 5
5 or 6 ## 5
between 5 and 6 ## 5
less than 5 ## 5
3x+2=7 ## 7
2x=10 ## x=5
x \cdot 2 = 10 ## 10
A = 15 \text{ m}^2 ## 15\mbox{ cm}^2
x is not 5 ## 5
x is 6 ## 5
2\frac{3}{2} ## 3
2\frac{3}{2} ## \frac72
-1\frac{7}{4} ## -\frac{7}{4}
y is 5 ## x=5
The answer is not 5 ## 5
5 is x squared ## 25
5.4 dollars ## 5.4 \text{ cents}
15 cm^3 ## 15\mbox{ cm}^2
15 m^2 ## 15\mbox{ cm}^2
(B) ## \text{(C)}
\text{(C)} or \text{(B)} ## \text{(C)}
\textbf{(C)}\ 12 \textbf{(B)} ## \text{(C)}
x>2 ## [2,\infty)
x<2 ## (2,\infty)
-2 < x \le 7 ## x \in [-2,7]
y \in [-2,7] ## x \in [-2,7]
(-\infty,2) ## (-\infty, 2) \cup (3, \infty)
(-\infty,2) \cap (3,\infty) ## (-\infty, 2) \cup (3, \infty)
\begin{pmatrix}1&2\\4&3\end{pmatrix} ## \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
\begin{pmatrix}1&2&3&4\end{pmatrix} ## \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
\begin{vmatrix}1&2\\3&4\end{vmatrix} ## \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
7-2i ## -2+7i
\sqrt{2}+\sqrt{3} ## \sqrt{5}
\sqrt{7}+\sqrt{11} ## 5.962
x+2^{255}-19 ## x
x+2^{127}-1 ## x
x + 10^{-50} ## x
1+10^{-500} ## 1
\sqrt{1+10^{-500}} ## 1
\sqrt{2}+10^{-60} ## \sqrt{2}
\cos x ## \cot x
\sin x ## \sin y
**5** ## 25
2**3 ## 8
5..  ## 5
import os ## 5
x^2 ## 2x
x_1 ## x_2
1.2.3 ## 1.23
1,2 ## 1.2
2k ## 2k+2
\sqrt{-4} ## 2
\frac{x^2-1}{x-1} ## x+1
\frac{1}{0} ## \infty
72^\circ ## 72\%
25\pi ## 25
5\pi ## 5
5i ## 5
5e ## 5
0 ## 10^{-500}
10^{-500} ## 0
\text{even} ## \text{odd}
\text{no solution} ## 0
12\text{th} ## 13
-5 ## 5
+-5 ## 5
5- ## 5
1.41 \approx \sqrt{2} ## \sqrt2
x \approx 0.33 ## \frac13
AB ## ab
(1,,2) ## (1,2)
(C)7 ## \text{(C)}
\frac12=0.6 ## 0.6
3=4=5 ## 5
f(x)=5 ## y=5
1,2,,3 ## 1,2,3
5! ## 5
5' ## 5
(5 ## 5
5) ## 5
[1,2] ## 1,2
(1,2) ## 1,2
2516_8 ## 1358
\{1,2\} ## (1,2)
1 \pm 2 ## 3
a=1, b=3 ## a=1, b=2
x=3 ## x=5
x=5, y=3 ## x=5
11,111,111,10 ## 11,\! 111,\! 111,\! 100
58,50 ## 58,500
x<5 ## x=5
x \ne 5 ## 5
x \neq 5 ## x = 5
x \approx 5 ## 5
\approx 5 ## 5
5... ## 5
5\ldots ## 5
\sim 5 ## 5
5 \text{ remainder } 2 ## 5
2\times ## 2
\frac{3}{4} ## \frac{4}{3}
- ## 5
y = 2x + b ## y = 2x + 3
f(2) ## 2
eft(2, 3) ## (2,3)
x<1 \text{ or y} -27 < x \le 3 ## (-\infty,1)\cup(-27,3]
2 \cdot 3\frac{1}{2} ## 3
7 c^2 ## 7\text{ cm}^2
0\infty ## -\infty
+(1,2) ## (1,2)
y^\circ = 2x ## y=2x
(C)^\circ ## \text{(C)}
3\% \cdot 9 ## 27
(2, 5\%) ## (2,5)
\frac{2}{5^\circ} ## \frac25
1\$ 74 ## 74
4 798 ## 4\,798
10, 080 ## 10,080
2\,272,657 ## 2272657
0 < xt < 2 ## (0,2)
x = :5 ## 5
x \= 5 ## 5
8\/13 ## \frac{8}{13}
\~\infty ## \infty
""".strip().splitlines()
]
