r"""Hand-made pairs for MATH that are right in lenient mode, one a line: `answer ## reference`."""

ACCEPTED = [
    tuple(line.split(" ## "))
    for line in r"""
1/2 ## \frac{1}{2}
\dfrac{1}{2} ## \frac{1}{2}
0.5 ## \frac{1}{2}
.5 ## \frac12
\frac{2}{4} ## 1/2
\frac{-1}{2} ## -\frac{1}{2}
-\frac{1}{2} ## \frac{1}{-2}
{1 \over 2} ## \frac12
½ ## \frac12
1½ ## \frac32
1 1/2 ## \frac{3}{2}
1\frac{1}{2} ## \frac{3}{2}
-1\frac{1}{2} ## -\frac{3}{2}
10,080 ## 10080
10{,}080 ## 10080
10,\!080 ## 10080
10\,080 ## 10080
$10,080$ ## 10080
\$10,080 ## 10080
\$ 36 ## 36
36 dollars ## \$36
36 ## \$36
-\$5 ## -5
50 ## 50\%
50\% ## 50
50% ## 50\%
50 percent ## 50\%
72^\circ ## 72
72^{\circ} ## 72^\circ
72° ## 72^\circ
72 degrees ## 72^\circ
\frac{270}{7}^\circ ## \frac{270}7\text{ degrees}
15 cm^2 ## 15\mbox{ cm}^2
15 \text{ cm}^2 ## 15\mbox{ cm}^2
15cm^2 ## 15\mbox{ cm}^2
15 square centimeters ## 15\mbox{ cm}^2
15 ## 15\mbox{ cm}^2
800 ml ## 800
800\text{ml} ## 800
800 \text{ widgets} ## 800
5.4 ## 5.4 \text{ cents}
5 m ## 5
60 mph ## 60
60 km/h ## 60
x=5 ## 5
5 ## x=5
x = 5 ## x=5
5 = x ## x=5
f(x) = 2x+1 ## 2x+1
y = 2x+1 ## 2x+1
2x+1 ## y = 2x+1
2x - y + 1 = 0 ## y = 2x+1
y - 2x = 1 ## y = 2x+1
10x - 14y + 22z + 8 = 0 ## 5x - 7y + 11z + 4 = 0
\angle ABC = 30^\circ ## 30
AB = 5 ## 5
The answer is 5 ## 5
\text{The answer is } 5 ## 5
5. ## 5
\boxed{5} ## 5
boxed{5} ## 5
(1,2) ## (1, 2)
(1.0, 2) ## (1,2)
\left(1,2\right) ## (1,2)
1,2 ## (1,2)
(3, \pi/2) ## \left( 3, \frac{\pi}{2} \right)
1,2,3 ## 3,2,1
\{1,2\} ## 1,2
1,2 ## \{2,1\}
1 and 2 ## 1,2
1 or 2 ## 1,2
1 \text{ and } 2 ## 1,2
x=1, x=2 ## 1,2
x = 1 or x = 2 ## 1,2
\pm 2 ## 2,-2
\pm 2 ## -2, 2
x=\pm 2 ## \pm 2
1 \pm \sqrt{2} ## 1+\sqrt{2}, 1-\sqrt{2}
1+\sqrt{19}, 1-\sqrt{19} ## 1 \pm \sqrt{19}
\{-2, 1+\sqrt5, 1-\sqrt5\} ## \{1\pm\sqrt{5},-2\}
(-\infty, 2)\cup(3, \infty) ## (-\infty, 2) \cup (3, \infty)
(3,\infty)\cup(-\infty,2) ## (-\infty, 2) \cup (3, \infty)
(-∞,2)∪(3,∞) ## (-\infty, 2) \cup (3, \infty)
(-\infty,2) U (3,+\infty) ## (-\infty, 2) \cup (3, \infty)
x<2 or x>3 ## (-\infty, 2) \cup (3, \infty)
x > 2 ## (2,\infty)
-2 \le x \le 7 ## x \in [-2,7]
-2 \leq x \leq 7 ## [-2,7]
[-2,7] ## x \in [-2,7]
x \in [-2,7] ## [-2, 7]
\begin{bmatrix}1&2\\3&4\end{bmatrix} ## \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
\frac{8}{49} \begin{pmatrix} 2 \\ 6 \\ 3 \end{pmatrix} ## \begin{pmatrix} 16/49 \\ 48/49 \\ 24/49 \end{pmatrix}
\begin{pmatrix} 0.2 \\ -3.6 \end{pmatrix} ## \begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}
-\begin{pmatrix}1&0\\0&1\end{pmatrix} ## \begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}
2516_{8} ## 2516_8
2516 ## 2516_8
40_{10} ## 40
7i-2 ## -2+7i
-2 + 7 i ## -2+7i
i^2 ## -1
(x+1)^2 ## x^2+2x+1
2+2k ## 2k+2
(b+2)(a+5) ## (a+5)(b+2)
ab+2a+5b+10 ## (a+5)(b+2)
x \cdot y ## xy
\frac{11}{20}+\frac{9a}{20} ## \frac{11+9a}{20}
\sqrt{8} ## 2\sqrt{2}
2^{1/2} ## \sqrt{2}
\sqrt{\frac{1}{3}} ## \frac{\sqrt{3}}{3}
\frac{1}{\sqrt{3}} ## \frac{\sqrt{3}}{3}
11\sqrt{2} ## 11\sqrt2
\sqrt 5 ## \sqrt{5}
sqrt(5) ## \sqrt{5}
√5 ## \sqrt{5}
\sqrt[3]{8} ## 2
5\pi ## 5 \pi
5π ## 5\pi
1.5\pi ## \frac{3\pi}{2}
\frac{3}{2}\pi ## \frac{3\pi}{2}
20000/\pi ## \frac{20000}{\pi}
\frac{\cos x}{\sin x} ## \cot x
\sin 30^\circ ## \frac12
\log_2 8 ## 3
e^{\ln 5} ## 5
3! ## 6
\binom{5}{2} ## 10
|{-5}| ## 5
0.\overline{3} ## \frac13
2^{10} ## 1024
2^10 ## 1024
10^{-2} ## 0.01
1.5 \times 10^3 ## 1500
5 \times 3 ## 15
5 × 3 ## 15
x² ## x^2
\text{east} ## east
East ## \text{east}
C ## \text{(C)}
(C) ## \text{(C)}
\text{C} ## \text{(C)}
\textbf{(C)} ## \text{(C)}
\mathrm{(C)} ## \text{(C)}
\textbf{(C)}\ 12 ## \text{(C)}
\infty ## \infty
x_1 + x_2 ## x_2+x_1
8 + 8 + 15 = 31 units ## 31
\frac{\sqrt{6}+\sqrt{2}}{4} ## \frac{\sqrt{2}+\sqrt{6}}{4}
\sqrt{3+2\sqrt{2}} ## 1+\sqrt{2}
\frac{1}{x-1} ## -\frac{1}{1-x}
−5 ## -5
５ ## 5
1,234,567 ## 1234567
(100,200) ## (100, 200)
\emptyset ## \emptyset
\text{no solution} ## \text{no solution}
\frac 34 ## 0.75
3/4 ## \frac34
\left[ 1, 2 \right) ## [1,2)
5\text{ or }6 ## 5,6
2\cos x ## 2 \cos(x)
\sin^2 x ## (\sin x)^2
\tan\theta ## \frac{\sin\theta}{\cos\theta}
3\sqrt{x} ## 3x^{1/2}
p - q ## -q + p
y=\frac{1}{2}x ## y = \frac{x}{2}
\frac{x}{2} ## 0.5x
a=1, b=2 ## a=1, b=2
(x-1)(x+1) ## x^2-1
\$32,\!348 ## 32348
\$32{,}348 ## \$32,\!348
11111111100 ## 11,\! 111,\! 111,\! 100
11,111,111,100 ## 11,\! 111,\! 111,\! 100
0.0000672 ## .0000672
6.72 \times 10^{-5} ## .0000672
6.72e-5 ## .0000672
864 \text{ in}^2 ## 864 \mbox{ inches}^2
864 in^2 ## 864 \mbox{ inches}^2
864 square inches ## 864 \mbox{ inches}^2
137.5 ## 137 \frac{1}{2}
\lfloor 3.7 \rfloor ## 3
٣ ## 3
0.1\overline{6} ## \frac16
\frac{x^2-1}{x^2-2x+1} ## \frac{x+1}{x-1}
4! ## 24
f(2)=5 ## 5
2 \cdot \frac{3}{2} ## 3
\frac{1}{2} \cdot 4 ## 2
3\frac{\pi}{2} ## 1.5\pi
x is 5 ## 5
The value of x is 5 ## 5
The area is 15 cm^2 ## 15\mbox{ cm}^2
\sin(30^\circ) ## \frac12
(30^\circ, 60^\circ) ## (30,60)
A = 15 \text{ cm}^2 ## 15\mbox{ cm}^2
1 + 2\cos(60^\circ) ## 2
f(x) = 2x ## 2x
P(A) = \frac12 ## 0.5
\frac{1}{3} \approx 0.33 ## \frac13
x = \sqrt{2} \approx 1.41 ## \sqrt2
\mathbf{(C)} ## \text{(C)}
\textbf{C} ## \text{(C)}
(x,y)=(1,2) ## (1,2)
\frac12=0.5 ## 0.5
A = 5\pi \text{ cm}^2 ## 5\pi
1, 2, and 3 ## 1,2,3
2\sqrt{x} ## \sqrt{4x}
2 \cdot 3\frac{1}{2} ## 7
-2 \cdot 3\frac12 ## -7
(2)\frac{1}{2} ## 1
4\,798 ## 4798
2\,272\,657 ## 2,272,657
50\% \text{ of the total} ## 50\%
20^\circ\text{C} ## 20
2 \cdot 30^\circ ## 60
left(2,3right) ## (2,3)
\text{A total of } 5 ## 5
""".strip().splitlines()
]
